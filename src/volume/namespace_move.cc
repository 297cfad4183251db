// Renaming.
#include <fmt/format.h>

#include <utility>

#include "src/volume/namespace.h"
#include "src/volume/request_log.h"

namespace cairn {

struct Namespace::Move {
  InodeId parent;
  std::string_view name;
  InodeId source;
  InodeRecord source_record;
  InodeId new_parent;
  std::string_view new_name;
  std::optional<InodeId> target;  // what has the new name now
  InodeRecord target_record;
  std::shared_ptr<DiskVolume> replaced;  // held, so that it stays loaded until it is marked
  RenameMode mode = RenameMode::kReplace;
};

Status Namespace::Rename(InodeId parent, std::string_view name, InodeId new_parent,
                         std::string_view new_name, RenameMode mode, const Caller& caller) {
  CAIRN_ASSIGN_OR_RETURN(const auto answer, context_.requests->FindAnswer(caller));
  if (answer) return Status::Ok();
  if (new_name.size() > kMaxNameBytes) return Status(Code::kNameTooLong, "a name has 255 bytes");
  if (new_parent == kRootInode && new_name == ".snapshots") {
    return Status(Code::kPermission, "'.snapshots' is where snapshots appear, and nothing else");
  }
  CAIRN_RETURN_IF_ERROR(CheckWritable(false));
  CAIRN_RETURN_IF_ERROR(CheckChangeable(parent));
  CAIRN_RETURN_IF_ERROR(CheckChangeable(new_parent));
  // Only moves of directories between directories need it; they are too rare to tell apart.
  MutexLock move_lock(directory_move_mu_);
  for (;;) {
    Move move{parent, name, {}, {}, new_parent, new_name, {}, {}, {}, mode};
    CAIRN_ASSIGN_OR_RETURN(const auto source, FindChild(parent, name));
    if (!source) return Status(Code::kNotFound, std::string(name));
    CAIRN_ASSIGN_OR_RETURN(move.target, FindChild(new_parent, new_name));
    move.source = *source;
    LockTable::Held held(locks_,
                         {parent, new_parent, move.source, move.target.value_or(move.source)});
    CAIRN_ASSIGN_OR_RETURN(const auto source_now, FindChild(parent, name));
    CAIRN_ASSIGN_OR_RETURN(const auto target_now, FindChild(new_parent, new_name));
    if (source_now != source || target_now != move.target) continue;
    CAIRN_ASSIGN_OR_RETURN(move.source_record, Record(move.source));
    if (move.target) {
      CAIRN_ASSIGN_OR_RETURN(move.target_record, Record(*move.target));
    }
    CAIRN_RETURN_IF_ERROR(CheckMove(move));
    if (move.target == move.source) return Status::Ok();
    CAIRN_RETURN_IF_ERROR(CommitMove(move, caller));
    const bool replaced_volume = move.target && mode != RenameMode::kExchange &&
                                 move.target_record.kind == FileKind::kVolume;
    if (replaced_volume && table_.MarkUnlinked(*move.target)) destroy_(*move.target);
    return Status::Ok();
  }
}

Status Namespace::CheckMove(const Move& move) {
  CAIRN_RETURN_IF_ERROR(DirectoryRecord(move.parent).status());
  CAIRN_RETURN_IF_ERROR(DirectoryRecord(move.new_parent).status());
  const bool source_is_dir = move.source_record.kind == FileKind::kDirectory;
  const bool target_is_dir = move.target && move.target_record.kind == FileKind::kDirectory;
  if (source_is_dir) {
    CAIRN_ASSIGN_OR_RETURN(const bool loop, IsAncestor(move.source, move.new_parent));
    if (loop) return Status(Code::kInvalid, "a directory cannot be moved into itself");
  }
  switch (move.mode) {
    case RenameMode::kExchange: {
      if (!move.target) return Status(Code::kNotFound, std::string(move.new_name));
      if (!target_is_dir) return Status::Ok();
      CAIRN_ASSIGN_OR_RETURN(const bool loop, IsAncestor(*move.target, move.parent));
      if (loop) return Status(Code::kInvalid, "a directory cannot be moved into itself");
      return Status::Ok();
    }
    case RenameMode::kNoReplace:
      if (move.target) return Status(Code::kExists, std::string(move.new_name));
      return Status::Ok();
    case RenameMode::kReplace:
      break;
  }
  if (!move.target || move.target == move.source) return Status::Ok();
  if (source_is_dir && !target_is_dir) {
    return Status(Code::kNotDirectory, std::string(move.new_name));
  }
  if (!source_is_dir && target_is_dir) {
    return Status(Code::kIsDirectory, std::string(move.new_name));
  }
  if (!target_is_dir) return Status::Ok();
  CAIRN_ASSIGN_OR_RETURN(const bool empty, IsEmpty(*move.target));
  return empty ? Status::Ok() : Status(Code::kNotEmpty, std::string(move.new_name));
}

Status Namespace::DeleteReplaced(Move& move, IndexBatch& batch) {
  const InodeId target = *move.target;
  if (move.target_record.kind == FileKind::kVolume) {
    CAIRN_ASSIGN_OR_RETURN(move.replaced, table_.Find(target));
    batch.PutOrphan(target);
    return Status::Ok();
  }
  batch.DeleteInode(target);
  return index().ForEachXattr(target, [&](std::string_view xattr, std::string_view) {
    batch.DeleteXattr(target, xattr);
    return true;
  });
}

Status Namespace::CommitMove(Move& move, const Caller& caller) {
  const bool exchange = move.mode == RenameMode::kExchange;
  IndexBatch batch;
  // Within a batch later changes win: what goes away first, what comes after.
  batch.DeleteName(move.parent, move.name, move.source);
  if (move.target) {
    batch.DeleteName(move.new_parent, move.new_name, *move.target);
    if (!exchange) CAIRN_RETURN_IF_ERROR(DeleteReplaced(move, batch));
  }
  batch.PutName(move.new_parent, move.new_name, move.source);
  if (exchange) batch.PutName(move.parent, move.name, *move.target);

  CAIRN_ASSIGN_OR_RETURN(const InodeRecord directory, DirectoryRecord(move.parent));
  TouchDirectory(move.parent, directory, batch);
  if (move.new_parent != move.parent) {
    CAIRN_ASSIGN_OR_RETURN(const InodeRecord new_directory, DirectoryRecord(move.new_parent));
    TouchDirectory(move.new_parent, new_directory, batch);
  }
  context_.requests->Enter(batch, caller);
  const int64_t now_ns = context_.clock->NowNs();
  const auto moved_to = [now_ns](InodeId parent) {
    return [now_ns, parent](InodeRecord& record) {
      record.parent = parent;
      record.ctime_ns = now_ns;
    };
  };
  if (!exchange) {
    return CommitInode(move.source, move.source_record, moved_to(move.new_parent), batch);
  }
  struct End {
    InodeId inode;
    const InodeRecord* record;
    InodeId parent;  // from here on
  };
  End first{move.source, &move.source_record, move.new_parent};
  End second{*move.target, &move.target_record, move.parent};
  // In the order in which a rollback takes the locks of its volumes, too.
  if (second.inode < first.inode) std::swap(first, second);
  return CommitInodeBy(first.inode, *first.record, moved_to(first.parent), batch, [&] {
    return CommitInode(second.inode, *second.record, moved_to(second.parent), batch);
  });
}

}  // namespace cairn
