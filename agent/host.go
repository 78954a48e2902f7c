package agent

import (
	"bytes"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"maps"
	"os"
	"os/user"
	"path/filepath"
	"slices"
	"strings"

	"github.com/rotunda-pki/rotunda/fleet"
	"github.com/rotunda-pki/rotunda/internal/command"
	"github.com/rotunda-pki/rotunda/internal/durable"
	"github.com/rotunda-pki/rotunda/internal/fault"
	"github.com/rotunda-pki/rotunda/target"
)

// maxPassword bounds a password file.
const maxPassword = 4 << 10

// HostRules is what the host's administrator lets the server ask for. Each
// refusal names the line that agent.yaml would need.
type HostRules struct {
	directories []string // absolute, clean
	users       []string
	groups      []string
	commands    map[string]command.Command
	passwords   map[string]string // name → file
	targets     map[string]TargetConfig
}

// HostRules are the rules that the config states.
func (c *Config) HostRules() *HostRules {
	h := &HostRules{
		users: slices.Clone(c.Allow.Users), groups: slices.Clone(c.Allow.Groups),
		commands: map[string]command.Command{}, passwords: map[string]string{}, targets: maps.Clone(c.Targets),
	}
	for _, dir := range c.Allow.Directories {
		h.directories = append(h.directories, filepath.Clean(dir))
	}
	for name, declared := range c.Commands {
		h.commands[name] = declared.Command(name, "agent.yaml")
	}
	for name, password := range c.Passwords {
		h.passwords[name] = password.File
	}
	return h
}

// AllowDirectory says whether certificates may be placed in path: it is
// absolute, clean, in an allowed directory, and nothing below that one on the
// way to it is a symbolic link. What does not exist yet is allowed.
func (h *HostRules) AllowDirectory(path string) error {
	root, rest, err := h.enter(path)
	if err != nil {
		return err
	}
	defer root.Close()
	for rest != "." {
		dir, err := durable.OpenDir(root, rest)
		if err == nil {
			return dir.Close()
		}
		if !errors.Is(err, fs.ErrNotExist) {
			return err
		}
		rest = filepath.Dir(rest)
	}
	return nil
}

// OpenDirectory opens an allowed directory for work below it. Missing
// directories on the way are made, for the agent's user to write and all to
// enter. The root returned stays in that directory, whatever is renamed.
func (h *HostRules) OpenDirectory(path string) (*os.Root, error) {
	root, rest, err := h.enter(path)
	if err != nil {
		return nil, err
	}
	defer root.Close()
	for i, r := range rest {
		if r == filepath.Separator {
			if err := durable.Mkdir(root, rest[:i], 0o755, nil); err != nil {
				return nil, err
			}
		}
	}
	if rest != "." {
		if err := durable.Mkdir(root, rest, 0o755, nil); err != nil {
			return nil, err
		}
	}
	return durable.OpenDir(root, rest)
}

// enter opens the allowed directory that path is in, the deepest one.
func (h *HostRules) enter(path string) (root *os.Root, rest string, err error) {
	if !filepath.IsAbs(path) || filepath.Clean(path) != path {
		return nil, "", fault.New(fault.Invalid, "directory %q: must be absolute, without '.', '..', '//' and a final '/'", path)
	}
	allowed := ""
	for _, dir := range h.directories {
		inside := path == dir || strings.HasPrefix(path, dir+string(filepath.Separator))
		if inside && len(dir) > len(allowed) {
			allowed = dir
		}
	}
	if allowed == "" {
		return nil, "", fault.New(fault.Forbidden, "directory %s: this host's agent.yaml does not allow it", path).
			WithRemedy("add it, or a directory above it, to allow.directories on the host")
	}
	if rest, err = filepath.Rel(allowed, path); err != nil {
		return nil, "", err
	}
	root, err = os.OpenRoot(allowed)
	if errors.Is(err, fs.ErrNotExist) {
		return nil, "", fault.New(fault.Invalid, "directory %s: allowed by agent.yaml, but it does not exist on this host", allowed).
			WithRemedy("make it: the agent makes directories below it, not the allowed one itself")
	}
	if err != nil {
		return nil, "", fmt.Errorf("open allowed directory: %w", err)
	}
	return root, rest, nil
}

// AllowUser says whether placed files may belong to the user; an empty name
// and the agent's own are always allowed.
func (h *HostRules) AllowUser(name string) error {
	if name == "" || slices.Contains(h.users, name) {
		return nil
	}
	if own, err := user.Current(); err == nil && own.Username == name {
		return nil
	}
	return fault.New(fault.Forbidden, "user %s: this host's agent.yaml does not allow files of it", name).
		WithRemedy("add it to allow.users on the host")
}

// AllowGroup is AllowUser for groups.
func (h *HostRules) AllowGroup(name string) error {
	if name == "" || slices.Contains(h.groups, name) {
		return nil
	}
	if own, err := user.Current(); err == nil {
		if group, err := user.LookupGroupId(own.Gid); err == nil && group.Name == name {
			return nil
		}
	}
	return fault.New(fault.Forbidden, "group %s: this host's agent.yaml does not allow files of it", name).
		WithRemedy("add it to allow.groups on the host")
}

// Command is the command of that name.
func (h *HostRules) Command(name string) (command.Command, error) {
	named, ok := h.commands[name]
	if !ok {
		return command.Command{}, fault.New(fault.Forbidden, "command %s: this host's agent.yaml has none of that name", name).
			WithRemedy("add it to commands on the host")
	}
	return named, nil
}

// Control is the control path of a target, or nil where agent.yaml names none.
func (h *HostRules) Control(name string, kind fleet.TargetKind) (*target.Control, error) {
	t, ok := h.targets[name]
	if !ok {
		return nil, nil
	}
	if t.Kind != string(kind) {
		return nil, fault.New(fault.Conflict, "target %s: its intent says that it is %s, and this host's agent.yaml that it is %s", name, kind, t.Kind).
			WithRemedy("correct target.kind in the intent, or targets.%s on the host", name)
	}
	control := &target.Control{
		Address: t.Address, User: t.User, PIDFile: t.PIDFile,
		Program: t.Program, Arguments: slices.Clone(t.Arguments), RunAs: t.RunAs,
	}
	if t.PasswordFile != "" {
		control.Password = func() ([]byte, error) { return readPassword("of target "+name, t.PasswordFile) }
	}
	return control, nil
}

// Password is the password of that name, read anew at each call.
func (h *HostRules) Password(name string) ([]byte, error) {
	path, ok := h.passwords[name]
	if !ok {
		return nil, fault.New(fault.Forbidden, "password %s: this host's agent.yaml has none of that name", name).
			WithRemedy("add it to passwords on the host")
	}
	return readPassword(name, path)
}

func readPassword(name, path string) ([]byte, error) {
	f, err := os.Open(path)
	if err != nil {
		return nil, fault.Wrap(fault.Invalid, err, "password %s", name).WithRemedy("write the file on the host, or correct its path in agent.yaml")
	}
	defer f.Close()
	info, err := f.Stat()
	if err != nil {
		return nil, fmt.Errorf("password %s: %w", name, err)
	}
	if !info.Mode().IsRegular() || info.Mode().Perm()&0o007 != 0 {
		return nil, fault.New(fault.Invalid, "password %s: %s must be a regular file that not everybody can use (mode %v)", name, path, info.Mode()).
			WithRemedy("chmod o= %s", path)
	}
	content, err := io.ReadAll(io.LimitReader(f, maxPassword+1))
	if err != nil {
		return nil, fmt.Errorf("password %s: %w", name, err)
	}
	content = bytes.TrimSuffix(bytes.TrimSuffix(content, []byte("\n")), []byte("\r"))
	if len(content) == 0 || len(content) > maxPassword {
		return nil, fault.New(fault.Invalid, "password %s: %s must hold 1 to %d bytes", name, path, maxPassword)
	}
	return content, nil
}
