package process

import "syscall"

// attributes gives a child a session of its own, so that a terminal's Ctrl-C
// reaches the demo alone. A bound child is killed by the kernel when the
// thread that started it ends; Go keeps its threads until the process ends.
func attributes(bound bool) *syscall.SysProcAttr {
	a := &syscall.SysProcAttr{Setsid: true}
	if bound {
		a.Pdeathsig = syscall.SIGKILL
	}
	return a
}
