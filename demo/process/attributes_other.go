//go:build !linux

package process

import "syscall"

// attributes gives a child a session of its own, so that a terminal's Ctrl-C
// reaches the demo alone. Only Linux can bind a child to its parent's life.
func attributes(bool) *syscall.SysProcAttr {
	return &syscall.SysProcAttr{Setsid: true}
}
