// Lets long work that is in no hurry leave its core to whoever waits for it. Linux lets a thread
// run until its slice is over, some milliseconds, though another has been woken on the same core,
// and even while other cores are idle: for who waits for a write of 10 us that is a long time.
#ifndef CAIRN_SRC_BASE_GIVE_WAY_H_
#define CAIRN_SRC_BASE_GIVE_WAY_H_

namespace cairn {

// To be called between the pieces of such work, which should take less than some 0.2 ms each.
// Sleeps for some 60 us if the thread has been on a core for 0.2 ms since it last did; else costs a
// look at its clock. Any thread; not with locks held for which others are in a hurry: with a gate
// closed it does nothing.
void GiveWay();
// How often this thread has slept for it.
long TimesGivenWay();

}  // namespace cairn

#endif  // CAIRN_SRC_BASE_GIVE_WAY_H_
