package installed

import "syscall"

// bound ties a server's life to this process.
func bound() *syscall.SysProcAttr { return &syscall.SysProcAttr{Pdeathsig: syscall.SIGKILL} }
