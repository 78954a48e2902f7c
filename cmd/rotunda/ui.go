package main

import (
	"bufio"
	"fmt"
	"io"
	"os"
	"strings"
	"sync"
	"sync/atomic"
	"time"

	"github.com/spf13/cobra"
	"golang.org/x/term"

	"github.com/rotunda-pki/rotunda/internal/fault"
)

// ui is where a command speaks with its operator: results go to out, all
// that is said about them to errs.
type ui struct {
	in        io.Reader
	out, errs io.Writer
	width     int  // columns of out when it is a terminal, else 0
	height    int  // rows of the same
	colour    bool // out may carry colours
	loud      bool // errs is a terminal: progress may be shown
	asks      bool // somebody sits at a terminal: questions may be asked
	now       time.Time
	hosts     hosts // by which agents are shown, where they are known
}

func newUI(cmd *cobra.Command) *ui {
	u := &ui{in: cmd.InOrStdin(), out: cmd.OutOrStdout(), errs: cmd.ErrOrStderr(), now: time.Now()}
	if fd, ok := terminal(u.out); ok {
		if width, height, err := term.GetSize(fd); err == nil {
			u.width, u.height = width, height
		}
		u.colour = os.Getenv("NO_COLOR") == "" && os.Getenv("TERM") != "dumb"
	}
	_, u.loud = terminal(u.errs)
	_, typed := terminal(u.in)
	u.asks = u.loud || typed
	return u
}

// tty opens the controlling terminal, to ask on: stdin may be a pipe with
// documents. It is nil where nobody can answer.
func (u *ui) tty() *os.File {
	if !u.asks {
		return nil
	}
	tty, err := os.OpenFile("/dev/tty", os.O_RDWR, 0)
	if err != nil {
		return nil // there is none, as in a container
	}
	return tty
}

func terminal(stream any) (fd int, ok bool) {
	file, ok := stream.(*os.File)
	if !ok {
		return 0, false
	}
	fd = int(file.Fd())
	return fd, term.IsTerminal(fd)
}

// fail says what went wrong, and on a line of its own what to do about it.
func (u *ui) fail(what, remedy string) {
	fmt.Fprintf(u.errs, "rotunda: %s\n", printable(what))
	u.hint(remedy)
}

func (u *ui) hint(remedy string) {
	if remedy != "" {
		fmt.Fprintf(u.errs, "hint: %s\n", printable(remedy))
	}
}

// note says something on stderr that is worth knowing beside the result.
func (u *ui) note(format string, args ...any) {
	fmt.Fprintf(u.errs, "%s\n", printable(fmt.Sprintf(format, args...)))
}

// say prints one line of the result.
func (u *ui) say(format string, args ...any) {
	fmt.Fprintf(u.out, "%s\n", printable(fmt.Sprintf(format, args...)))
}

// confirm asks before something that is hard to take back. Where nobody can
// answer it refuses, so that a script has to say --yes.
func (u *ui) confirm(yes bool, question string) error {
	if yes {
		return nil
	}
	tty := u.tty()
	if tty == nil {
		return fault.New(fault.Invalid, "not done: %s", question).
			WithRemedy("there is no terminal to ask on; say --yes to do it")
	}
	defer func() { _ = tty.Close() }() // nothing is lost
	fmt.Fprintf(tty, "%s [y/N] ", printable(question))
	answer, err := bufio.NewReader(tty).ReadString('\n')
	if err != nil && err != io.EOF {
		return fmt.Errorf("read the answer: %w", err)
	}
	switch strings.ToLower(strings.TrimSpace(answer)) {
	case "y", "yes":
		return nil
	}
	return fault.New(fault.Invalid, "not done: it was not confirmed")
}

// passphrase asks for one without showing it. It is nil where nobody can
// answer.
func (u *ui) passphrase(prompt string) func() ([]byte, error) {
	if !u.asks {
		return nil
	}
	return func() ([]byte, error) {
		tty := u.tty()
		if tty == nil {
			return nil, fault.New(fault.Invalid, "there is no terminal to ask for the passphrase on")
		}
		defer func() { _ = tty.Close() }() // nothing is lost
		fmt.Fprint(tty, printable(prompt))
		defer fmt.Fprintln(tty)
		return term.ReadPassword(int(tty.Fd()))
	}
}

// newPassphrase asks twice for the passphrase of a new secret. Where there is
// no terminal it is one line of stdin.
func (u *ui) newPassphrase(of string) ([]byte, error) {
	if !u.asks {
		return u.passphraseLine()
	}
	first, err := u.passphrase("Passphrase for " + of + ": ")()
	if err != nil {
		return nil, err
	}
	second, err := u.passphrase("The same again: ")()
	if err != nil {
		return nil, err
	}
	if len(first) == 0 || string(first) != string(second) {
		return nil, fault.New(fault.Invalid, "the two passphrases differ, or are empty")
	}
	return first, nil
}

func (u *ui) passphraseLine() ([]byte, error) {
	line, err := bufio.NewReader(u.in).ReadString('\n')
	if err != nil && err != io.EOF {
		return nil, fmt.Errorf("read the passphrase: %w", err)
	}
	if line = strings.TrimRight(line, "\r\n"); line == "" {
		return nil, usagef("a passphrase was asked for, and stdin holds none")
	}
	return []byte(line), nil
}

// oldPassphrase asks for the passphrase of a secret that is there. Where there
// is no terminal it is one line of stdin.
func (u *ui) oldPassphrase(prompt string) ([]byte, error) {
	if ask := u.passphrase(prompt); ask != nil {
		return ask()
	}
	return u.passphraseLine()
}

// progress shows on a terminal, after a second, that the command still
// waits, and for how long. The returned function ends it, and may be called again:
// before what comes last is said, and deferred for the ways out before that.
func (u *ui) progress(doing string) (done func()) {
	return u.progressOf(func() string { return doing })
}

func (u *ui) progressOf(doing func() string) (done func()) {
	if !u.loud {
		return func() {}
	}
	stop, stopped := make(chan struct{}), make(chan struct{})
	go func() {
		defer close(stopped)
		start, tick := time.Now(), time.NewTicker(time.Second)
		defer tick.Stop()
		for {
			select {
			case <-tick.C:
				fmt.Fprintf(u.errs, "\r\x1b[K%s … %s", doing(), time.Since(start).Round(time.Second))
			case <-stop:
				if time.Since(start) >= time.Second {
					fmt.Fprint(u.errs, "\r\x1b[K")
				}
				return
			}
		}
	}()
	return sync.OnceFunc(func() { close(stop); <-stopped })
}

// counter is progress whose words change while it waits. On a terminal they
// stand on one line with the time; elsewhere each change of them is a line.
func (u *ui) counter(words string) (show func(string), done func()) {
	if !u.loud {
		last := words
		return func(now string) {
			if now != last {
				last = now
				u.note("%s", now)
			}
		}, func() {}
	}
	var said atomic.Pointer[string]
	said.Store(&words)
	end := u.progressOf(func() string { return oneLine(*said.Load()) })
	return func(now string) { said.Store(&now) }, end
}

// style is a colour by its meaning.
type style string

const (
	plain  style = ""
	good   style = "32"
	busy   style = "36"
	warn   style = "33"
	bad    style = "31"
	faint  style = "2"
	strong style = "1"
)

func (u *ui) paint(s style, text string) string {
	if !u.colour || s == plain || text == "" {
		return text
	}
	return "\x1b[" + string(s) + "m" + text + "\x1b[0m"
}

// printable takes out what could steer a terminal: names, reasons and facts
// come from other machines.
func printable(text string) string {
	return strings.Map(func(r rune) rune {
		switch {
		case r == '\n' || r == '\t':
			return r
		case r < ' ' || r == 0x7f || (r >= 0x80 && r < 0xa0):
			return '\uFFFD'
		case r >= 0x202a && r <= 0x202e || r >= 0x2066 && r <= 0x2069: // text that runs backwards
			return '\uFFFD'
		}
		return r
	}, text)
}
