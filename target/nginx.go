package target

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"slices"
	"strconv"
	"strings"
	"syscall"
	"time"

	"github.com/rotunda-pki/rotunda/fleet"
	"github.com/rotunda-pki/rotunda/internal/fault"
	"github.com/rotunda-pki/rotunda/probe"
)

// How long nginx may take to start workers for a configuration that it has
// just found good, and how often it is looked at meanwhile.
const (
	nginxPatience = 15 * time.Second
	nginxEvery    = 5 * time.Millisecond
)

// nginx is nginx. Its own program tries the configuration, with the files that
// are in use now, before its master is signalled. The master starts workers
// and tells the old ones to end, which accept nothing more from then on.
func nginx() Adapter {
	return Adapter{
		Capabilities: Capabilities{
			Kind:              fleet.TargetNginx,
			Title:             "nginx",
			Layout:            LayoutSymlink,
			Control:           "pidFile; program and arguments (nginx -c FILE)",
			Reload:            "nginx -t, then SIGHUP to the master",
			Word:              "the exit of nginx -t, then its workers: new ones run and the old ones accept no more",
			Owner:             "readable by root",
			Health:            "answers",
			Leaf:              AtReload,
			KeyType:           AtReload,
			AnchorAdd:         AtReload,
			AnchorRemove:      AtReload,
			CRL:               AtReload,
			Staple:            AtReload,
			CRLInclude:        "include DIR/current/crl.conf; in the server, in the place of ssl_crl",
			ClosesConnections: Yes,
			CloseSessionsBy:   "worker_shutdown_timeout after a reload",
			Validates:         Yes,
			BrokenPair:        "nginx -t says so and the old pair stays",
			VerifyDepth:       1,
			Formats:           []fleet.Format{fleet.FormatPEM, fleet.FormatCombined},
			Preamble:          probe.HTTP,
			Measured:          "1.22.1",
			Note: "Idle keep-alive connections are closed at each reload: clients must retry idempotent requests. " +
				"ssl_verify_depth is 1 unless set; clients under a bridge need 2.",
		},
		contact:      contactNginx,
		crlConfig:    func(path string) string { return "ssl_crl \"" + path + "\";" },
		stapleConfig: func(path string) string { return "ssl_stapling on; ssl_stapling_file \"" + path + "\";" },
		reload:       reloadNginx,
		says:         nginxSays,
	}
}

func contactNginx(ctx context.Context, host Host, t Target) (Contact, error) {
	process, err := t.master(ctx)
	if err != nil {
		return Contact{}, err
	}
	_ = process.Release() // it was only looked at
	// -T is -t, and prints the whole configuration.
	output, err := t.nginx(ctx, host, "-v", "-T")
	if err != nil {
		return Contact{}, err
	}
	if err := t.usedBy(output); err != nil {
		return Contact{}, err
	}
	if err := t.checkNginxLists(output); err != nil {
		return Contact{}, err
	}
	contact := Contact{Product: "nginx"}
	if found := nginxVersion.FindStringSubmatch(output); found != nil {
		contact.Version = found[1]
	}
	return contact, nil
}

func reloadNginx(ctx context.Context, host Host, t Target, _ Change) (Loaded, error) {
	process, err := t.master(ctx)
	if err != nil {
		return Loaded{}, err
	}
	defer func() { _ = process.Release() }() // forgets it; the master runs on
	if _, err := t.nginx(ctx, host, "-t", "-q"); err != nil {
		return Loaded{}, err
	}
	before := workersOf(process.Pid)
	if err := t.send(ctx, process, syscall.SIGHUP); err != nil {
		return Loaded{}, err
	}
	if len(before) == 0 {
		return Loaded{Level: fleet.Delivered, Output: "its workers can't be seen in /proc"}, nil
	}
	return t.changeover(ctx, process.Pid, before)
}

// changeover waits until workers run that did not run before, and those that
// did accept nothing more.
func (t Target) changeover(ctx context.Context, master int, before []worker) (Loaded, error) {
	ctx, cancel := context.WithTimeout(ctx, nginxPatience)
	defer cancel()
	again := time.NewTicker(nginxEvery)
	defer again.Stop()
	for {
		now := workersOf(master)
		if changedOver(before, now) {
			return Loaded{Level: fleet.Loaded, Output: generations(now)}, nil
		}
		select {
		case <-ctx.Done():
			return Loaded{}, fault.New(fault.Unavailable, "nginx %s was told to reload and its workers are still the old ones: %s", t.Name, generations(now)).
				WithRemedy("its error_log says why; see too that targets.%s.arguments name the configuration that it runs from", t.Name)
		case <-again.C:
		}
	}
}

// changedOver says whether the workers are those of a newer configuration.
func changedOver(before, now []worker) bool {
	fresh := false
	for _, w := range now {
		old := slices.ContainsFunc(before, func(b worker) bool { return b.pid == w.pid })
		if old && !w.ending {
			return false
		}
		fresh = fresh || !old && !w.ending
	}
	return fresh
}

func nginxSays(ctx context.Context, _ Host, t Target) (string, error) {
	process, err := t.master(ctx)
	if err != nil {
		return "", err
	}
	defer func() { _ = process.Release() }()
	return generations(workersOf(process.Pid)), nil
}

// master finds the process of the pid file, which must be a master.
func (t Target) master(ctx context.Context) (*os.Process, error) {
	process, err := t.process(ctx, "nginx")
	if err != nil {
		return nil, err
	}
	title, err := titleOf(process.Pid)
	if err == nil && strings.HasPrefix(title, "nginx: master process") {
		return process, nil
	}
	_ = process.Release()
	if err != nil {
		return nil, fault.Wrap(fault.Unavailable, err, "look at process %d of target %s", process.Pid, t.Name)
	}
	return nil, fault.New(fault.Invalid, "pid file %s of target %s names process %d, which is no master of nginx but %.100q", t.Control.PIDFile, t.Name, process.Pid, title).
		WithRemedy("name the file of its pid directive as targets.%s.pidFile in agent.yaml, and leave master_process on", t.Name)
}

// nginx runs nginx's own program, for it to try its configuration.
func (t Target) nginx(ctx context.Context, host Host, options ...string) (string, error) {
	if t.Control.Program == "" {
		return "", fault.New(fault.Invalid, "target %s: agent.yaml names no program to try nginx's configuration with", t.Name).
			WithRemedy("write program: /usr/sbin/nginx, and its arguments, under targets.%s", t.Name)
	}
	output, err := host.Program(ctx, t.Control.RunAs, slices.Concat([]string{t.Control.Program}, t.Control.Arguments, options)...)
	exit, ran := errors.AsType[*exec.ExitError](err)
	switch {
	case err == nil:
		return output, nil
	case ctx.Err() != nil:
		return "", fault.Wrap(fault.Unavailable, ctx.Err(), "%s of target %s did not end", t.Control.Program, t.Name)
	case ran:
		return "", fault.New(fault.Invalid, "nginx %s finds its configuration bad (%v): %s", t.Name, exit, ending(output)).
			WithRemedy("nothing was told to reload; mend what it says and see: %s", strings.Join(append(append([]string{t.Control.Program}, t.Control.Arguments...), "-t"), " "))
	}
	return "", fault.Wrap(fault.Invalid, err, "run %s of target %s", t.Control.Program, t.Name).
		WithRemedy("mend targets.%s.program in agent.yaml", t.Name)
}

var (
	nginxVersion = regexp.MustCompile(`(?m)^nginx version: \S*?/(\S+)`)
	// nginxFile is a directive that names a certificate, towards clients or
	// upstreams, anywhere but in a comment.
	nginxFile = regexp.MustCompile(`(?m)^[^#\n]*?(?:^|[\s;{}])((?:\w+_)?ssl_(?:\w+_)?certificate)\s+["']?([^\s;"']+)`)
)

// nginxList is a directive that names CRLs or a response to staple.
var nginxList = regexp.MustCompile(`(?m)^[^#\n]*?(?:^|[\s;{}])(ssl_crl|ssl_stapling_file)\s+["']?([^\s;"']+)`)

// checkNginxLists says whether the configuration names what is delivered beside
// the certificate. A server may have several; one that takes them is enough, for
// the others may have clients of another kind.
func (t Target) checkNginxLists(configuration string) error {
	if !t.takesCRL() && !(t.Staple && t.placed("staple.der")) || !strings.Contains(configuration, "\n# configuration file ") {
		return nil
	}
	var crl, from, staple, stapleFrom string
	for _, section := range strings.Split(configuration, "\n# configuration file ") {
		file, _, _ := strings.Cut(section, ":\n")
		for _, found := range nginxList.FindAllStringSubmatch(section, -1) {
			switch {
			case found[1] == "ssl_stapling_file" && (staple == "" || t.follows(found[2], "staple.der") && !t.follows(stapleFrom, "staple.conf")):
				staple, stapleFrom = found[2], file
			case found[1] == "ssl_crl" && (crl == "" || t.follows(found[2], "crl.pem") && !t.follows(from, "crl.conf")):
				crl, from = found[2], file
			}
		}
	}
	if t.takesCRL() {
		if err := t.checkCRL("nginx", crl, from, "ssl_crl "+t.File("crl.pem")+";", "include "+t.File("crl.conf")+";"); err != nil {
			return err
		}
	}
	switch remedy := "write include " + t.File("staple.conf") + "; into the server, in the place of ssl_stapling_file, and reload it"; {
	case !t.Staple || !t.placed("staple.der"):
		return nil
	case !t.follows(staple, "staple.der"):
		return fault.New(fault.Invalid, "target %s: its profile asks for stapled responses, and nginx staples %q", t.Name, orNone(staple)).
			WithRemedy("%s", remedy)
	case !t.follows(stapleFrom, "staple.conf"):
		return fault.New(fault.Invalid, "target %s: nginx names its response to staple in %q: it would load nothing while there is none, as beside each new certificate", t.Name, stapleFrom).
			WithRemedy("%s", remedy)
	}
	return nil
}

func orNone(text string) string {
	if text == "" {
		return "none"
	}
	return text
}

// usedBy says whether the configuration, as nginx -T prints it, names a file
// of this target's directory. The end of a long one is all that there may be;
// then what is not in it may have been before it.
func (t Target) usedBy(configuration string) error {
	var elsewhere []string
	for _, found := range nginxFile.FindAllStringSubmatch(configuration, -1) {
		if t.follows(found[2]) {
			return nil
		}
		elsewhere = append(elsewhere, found[1]+" "+found[2])
	}
	tested, _, whole := strings.Cut(configuration, "\n# configuration file ")
	if !whole || !strings.Contains(tested, "nginx version:") {
		return nil
	}
	if len(elsewhere) == 0 {
		elsewhere = []string{"no ssl_certificate at all"}
	}
	return fault.New(fault.Invalid, "nginx %s uses no file of %s; its configuration has %s", t.Name, t.File(""),
		strings.Join(elsewhere[:min(len(elsewhere), 5)], ", ")).
		WithRemedy("write ssl_certificate %s; ssl_certificate_key %s;", t.File("chain.pem"), t.File("key.pem"))
}

// worker is a worker process; ending: it was told to end, and accepts no more.
type worker struct {
	pid    int
	ending bool
}

// workersOf lists the workers of a master, as far as /proc shows them.
func workersOf(master int) []worker {
	id := strconv.Itoa(master)
	children, err := os.ReadFile(filepath.Join("/proc", id, "task", id, "children"))
	if err != nil {
		return nil
	}
	var workers []worker
	for _, child := range strings.Fields(string(children)) {
		pid, err := strconv.Atoi(child)
		if err != nil {
			continue
		}
		title, err := titleOf(pid)
		if err == nil && strings.HasPrefix(title, "nginx: worker process") {
			workers = append(workers, worker{pid, strings.HasSuffix(title, "is shutting down")})
		}
	}
	return workers
}

// titleOf is what a process calls itself.
func titleOf(pid int) (string, error) {
	line, err := os.ReadFile(filepath.Join("/proc", strconv.Itoa(pid), "cmdline"))
	return strings.TrimSpace(string(bytes.ReplaceAll(line, []byte{0}, []byte{' '}))), err
}

// generations is like "2 workers, 1 of an earlier configuration shutting down".
func generations(workers []worker) string {
	ending := 0
	for _, w := range workers {
		if w.ending {
			ending++
		}
	}
	text := fmt.Sprintf("%d workers", len(workers)-ending)
	if ending > 0 {
		text += fmt.Sprintf(", %d of earlier configurations shutting down", ending)
	}
	return text
}
