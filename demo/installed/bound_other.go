//go:build !linux

package installed

import "syscall"

func bound() *syscall.SysProcAttr { return &syscall.SysProcAttr{} }
