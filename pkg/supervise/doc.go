// Package supervise starts one app and looks after it: signals, restarts, an orderly stop, and the orphans that it leaves.
//
// A [Reaper] is the parent of processes. It waits for every child of this process, also for those that it did not start: a process
// whose parent has ended becomes a child of PID 1, and stays in the process table until that one waits for it (wait(2), NOTES). So a
// process that has a Reaper must start others by it alone; os/exec would wait for the same children.
//
// A [Supervisor] runs one app on a Reaper, until it is told to stop or the app has ended and is not to be started again.
package supervise
