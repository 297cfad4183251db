// Clang's thread-safety attributes; nothing under other compilers.
#ifndef CAIRN_SRC_BASE_THREAD_ANNOTATIONS_H_
#define CAIRN_SRC_BASE_THREAD_ANNOTATIONS_H_

#if defined(__clang__)
#define CAIRN_ATTRIBUTE(x) __attribute__((x))
#else
#define CAIRN_ATTRIBUTE(x)
#endif

#define CAIRN_CAPABILITY(x) CAIRN_ATTRIBUTE(capability(x))
#define CAIRN_SCOPED_CAPABILITY CAIRN_ATTRIBUTE(scoped_lockable)
#define CAIRN_GUARDED_BY(x) CAIRN_ATTRIBUTE(guarded_by(x))
#define CAIRN_PT_GUARDED_BY(x) CAIRN_ATTRIBUTE(pt_guarded_by(x))
#define CAIRN_REQUIRES(...) CAIRN_ATTRIBUTE(requires_capability(__VA_ARGS__))
#define CAIRN_REQUIRES_SHARED(...) CAIRN_ATTRIBUTE(requires_shared_capability(__VA_ARGS__))
#define CAIRN_ACQUIRE(...) CAIRN_ATTRIBUTE(acquire_capability(__VA_ARGS__))
#define CAIRN_ACQUIRE_SHARED(...) CAIRN_ATTRIBUTE(acquire_shared_capability(__VA_ARGS__))
#define CAIRN_RELEASE(...) CAIRN_ATTRIBUTE(release_capability(__VA_ARGS__))
#define CAIRN_RELEASE_SHARED(...) CAIRN_ATTRIBUTE(release_shared_capability(__VA_ARGS__))
#define CAIRN_RELEASE_GENERIC(...) CAIRN_ATTRIBUTE(release_generic_capability(__VA_ARGS__))
#define CAIRN_TRY_ACQUIRE(...) CAIRN_ATTRIBUTE(try_acquire_capability(__VA_ARGS__))
#define CAIRN_EXCLUDES(...) CAIRN_ATTRIBUTE(locks_excluded(__VA_ARGS__))
#define CAIRN_NO_THREAD_SAFETY_ANALYSIS CAIRN_ATTRIBUTE(no_thread_safety_analysis)

#endif  // CAIRN_SRC_BASE_THREAD_ANNOTATIONS_H_
