package agent

import (
	"bytes"
	"encoding/hex"
	"errors"
	"fmt"
	"io"
	"maps"
	"net"
	"os"
	"path/filepath"
	"regexp"
	"slices"
	"strconv"
	"strings"

	"github.com/spiffe/go-spiffe/v2/spiffeid"
	"go.yaml.in/yaml/v3"
	"golang.org/x/mod/sumdb/note"

	"github.com/rotunda-pki/rotunda/fleet"
	"github.com/rotunda-pki/rotunda/internal/command"
	"github.com/rotunda-pki/rotunda/internal/fault"
	"github.com/rotunda-pki/rotunda/target"
)

// The defaults of agent.yaml.
const (
	DefaultState  = "/var/lib/rotunda-agent"
	DefaultSocket = "/run/rotunda/agent.sock"
)

// maxConfig bounds agent.yaml.
const maxConfig = 1 << 20

// Config is agent.yaml: the settings of the agent's process, and what the
// server may ask of this host. The server can ask for nothing else: it names
// directories, users, commands and passwords, and only what stands here under
// that name exists.
type Config struct {
	// Servers are the agents' listeners of the control plane, the preferred one
	// first: each as host:port, or as {address: host:port, region: NAME}. They
	// are what the agent begins with. Those that Region documents name come
	// beside them, and are preferred where they are of the agent's own region.
	Servers []ServerAddress `yaml:"servers"`

	// State is the directory where the agent keeps its identity, the newest
	// desired state and its placements' progress. Default: that of rotunda
	// agent --state, /var/lib/rotunda-agent. It belongs to one agent alone.
	State string `yaml:"state"`

	// TrustDomain, CAPin and LogKey say which control plane to believe: the
	// SPIFFE trust domain, the SHA-256 (hex) of its root certificate, and the
	// verifier key of its audit log. An enrolment token carries all three;
	// where they stand here too, both must agree.
	TrustDomain string `yaml:"trustDomain"`
	CAPin       string `yaml:"caPin"`
	LogKey      string `yaml:"logKey"`

	// Witnesses are who outside must cosign the audit log. Empty: nobody.
	Witnesses WitnessesConfig `yaml:"witnesses"`

	// Allow is what intents may name on this host.
	Allow Allow `yaml:"allow"`

	// Commands are what reloadCommand and restartCommand of an intent may
	// name. No command line ever comes from the server.
	Commands map[string]command.Config `yaml:"commands"`

	// Targets are the servers of this host that the agent may reach on a
	// control path, each by the target.name of its intents.
	Targets map[string]TargetConfig `yaml:"targets"`

	// Passwords are what an intent may name for keystores and probes. They
	// stay on this host.
	Passwords map[string]PasswordConfig `yaml:"passwords"`

	// Metrics is the host:port where Prometheus finds /metrics. Empty: none.
	Metrics string `yaml:"metrics"`

	// Socket is the unix socket by which rotunda agent wait and rotunda exec
	// ask this agent. Default: /run/rotunda/agent.sock, or agent.sock in the
	// state directory where that is not the default one.
	Socket string `yaml:"socket"`
}

// ServerAddress is where one server can be reached.
type ServerAddress struct {
	Address string `yaml:"address"`
	Region  string `yaml:"region"` // empty: of no particular one
}

// UnmarshalYAML takes a plain host:port too.
func (s *ServerAddress) UnmarshalYAML(node *yaml.Node) error {
	if node.Kind == yaml.ScalarNode {
		return node.Decode(&s.Address)
	}
	for i := 0; node.Kind == yaml.MappingNode && i+1 < len(node.Content); i += 2 {
		if key := node.Content[i]; key.Value != "address" && key.Value != "region" {
			return &yaml.TypeError{Errors: []string{fmt.Sprintf("line %d: field %s not found in type ServerAddress", key.Line, key.Value)}}
		}
	}
	type plain ServerAddress
	return node.Decode((*plain)(s))
}

// Allow is what intents may name on this host.
type Allow struct {
	// Directories under which certificates may be placed: absolute paths.
	// A directory named here stands for all below it.
	Directories []string `yaml:"directories"`

	// Users and Groups that may own placed files. The agent's own may always.
	Users  []string `yaml:"users"`
	Groups []string `yaml:"groups"`
}

// TargetConfig is how the agent reaches a server beside the TLS that is being
// changed. Which fields a kind wants, rotunda targets tells.
type TargetConfig struct {
	// Kind of the server; an intent of another kind is refused.
	Kind string `yaml:"kind"`

	// Address of its control path: a unix socket by its absolute path, or a
	// loopback host:port that speaks in the plain. Where there is a password,
	// and for haproxy, it must be a unix socket; postgres alone may have both.
	Address string `yaml:"address"`

	// User that the server knows the agent by, and the file that holds the
	// password, by its absolute path. It must not be readable by everybody.
	User         string `yaml:"user"`
	PasswordFile string `yaml:"passwordFile"`

	// PIDFile holds the number of the process that signals go to.
	PIDFile string `yaml:"pidFile"`

	// Program is the server's own tool, by its absolute path; Arguments go
	// before what the agent adds; RunAs is the user that runs it. Default: the
	// agent's own.
	Program   string   `yaml:"program"`
	Arguments []string `yaml:"arguments"`
	RunAs     string   `yaml:"runAs"`
}

// targetList names the targets that have a control path, "name=kind" each,
// sorted: the control plane says at a plan which ones are missing.
func (c *Config) targetList() string {
	var list []string
	for _, name := range slices.Sorted(maps.Keys(c.Targets)) {
		list = append(list, name+"="+c.Targets[name].Kind)
	}
	return strings.Join(list, ",")
}

// PasswordConfig is one named password.
type PasswordConfig struct {
	// File that holds it, by its absolute path. A final newline is not part
	// of it. It must not be readable by everybody.
	File string `yaml:"file"`
}

// LoadConfig reads agent.yaml. The error lists all that is wrong, each with
// file, line, rule and remedy.
func LoadConfig(path, state string) (*Config, error) {
	f, err := os.Open(path)
	if err != nil {
		return nil, fault.Wrap(fault.Invalid, err, "agent.yaml").WithRemedy("rotunda agent --server HOST:PORT --allow DIRECTORY writes one")
	}
	defer f.Close()
	content, err := io.ReadAll(io.LimitReader(f, maxConfig+1))
	if err != nil {
		return nil, fmt.Errorf("read %s: %w", path, err)
	}
	return parseConfig(path, content, state)
}

// ParseConfig is LoadConfig for a file's content; path is for the messages.
func ParseConfig(path string, content []byte) (*Config, error) {
	return parseConfig(path, content, DefaultState)
}

func parseConfig(path string, content []byte, state string) (*Config, error) {
	if len(content) > maxConfig {
		return nil, fault.New(fault.Invalid, "%s: must not be larger than %d bytes", path, maxConfig)
	}
	decoder := yaml.NewDecoder(bytes.NewReader(content))
	decoder.KnownFields(true)
	c := new(Config)
	if err := decoder.Decode(c); err != nil && !errors.Is(err, io.EOF) {
		return nil, decodeErrors(path, err)
	}
	if err := decoder.Decode(new(yaml.Node)); !errors.Is(err, io.EOF) {
		return nil, fault.New(fault.Invalid, "%s: must be one YAML document", path).WithRemedy("remove what follows ---")
	}
	var tree yaml.Node
	if err := yaml.Unmarshal(content, &tree); err != nil {
		return nil, decodeErrors(path, err)
	}
	c.fillDefaults(state)
	v := &configCheck{path: path, tree: &tree}
	v.check(c)
	return c, errors.Join(v.errs...)
}

func (c *Config) fillDefaults(state string) {
	if c.State == "" {
		c.State = state
	}
	if c.Socket == "" {
		c.Socket = DefaultSocket
		if c.State != DefaultState {
			c.Socket = filepath.Join(c.State, "agent.sock")
		}
	}
}

var yamlLine = regexp.MustCompile(`^(?:yaml: )?line (\d+): (.*)$`)
var yamlUnknown = regexp.MustCompile(`^field (\S+) not found in type \S+$`)

// decodeErrors puts the YAML library's complaints into file:line form.
func decodeErrors(path string, err error) error {
	messages := []string{err.Error()}
	if typed, ok := errors.AsType[*yaml.TypeError](err); ok {
		messages = typed.Errors
	}
	var errs []error
	for _, message := range messages {
		place, remedy := path, "mend the YAML"
		if m := yamlLine.FindStringSubmatch(message); m != nil {
			place, message = path+":"+m[1], m[2]
		}
		if m := yamlUnknown.FindStringSubmatch(message); m != nil {
			message, remedy = "unknown field "+m[1], "remove it, or look for a typing error"
		}
		errs = append(errs, fault.New(fault.Invalid, "%s: %s", place, message).WithRemedy("%s", remedy))
	}
	return errors.Join(errs...)
}

// configCheck gathers what is wrong with a Config that decoded.
type configCheck struct {
	path string
	tree *yaml.Node
	errs []error
}

var configName = regexp.MustCompile(`^[a-z0-9]([-a-z0-9.]{0,61}[a-z0-9])?$`)

func (v *configCheck) check(c *Config) {
	v.checkServers(c)
	v.checkPins(c)
	v.checkWitnesses(c.Witnesses)
	v.absolute(c.State, "state")
	v.absolute(c.Socket, "socket")
	if c.Metrics != "" {
		v.hostPort(c.Metrics, "metrics")
	}
	for i, dir := range c.Allow.Directories {
		v.absolute(dir, "allow", "directories", i)
		if filepath.Clean(dir) == "/" {
			v.fail("name the directories that hold certificates", "the whole file system can't be allowed", "allow", "directories", i)
		}
	}
	for i, user := range c.Allow.Users {
		v.notEmpty(user, "allow", "users", i)
	}
	for i, group := range c.Allow.Groups {
		v.notEmpty(group, "allow", "groups", i)
	}
	v.checkCommands(c)
	v.checkTargets(c)
	for name, password := range c.Passwords {
		v.name(name, "passwords", name)
		v.absolute(password.File, "passwords", name, "file")
	}
}

func (v *configCheck) checkServers(c *Config) {
	if len(c.Servers) == 0 {
		v.fail("write servers: [host:port]", "there must be at least one server", "servers")
	}
	seen := map[string]bool{}
	for i, server := range c.Servers {
		v.hostPort(server.Address, "servers", i)
		if seen[server.Address] {
			v.fail("remove one", fmt.Sprintf("%s stands here twice", server.Address), "servers", i)
		}
		seen[server.Address] = true
		if server.Region != "" {
			if _, err := fleet.ParseName(server.Region); err != nil {
				v.fail("write the name of a Region document", fmt.Sprintf("region %q: %v", server.Region, err), "servers", i)
			}
		}
	}
}

func (v *configCheck) checkPins(c *Config) {
	if c.TrustDomain != "" {
		if _, err := spiffeid.TrustDomainFromString(c.TrustDomain); err != nil {
			v.fail("write it like example.org", fmt.Sprintf("%q is no trust domain: %v", c.TrustDomain, err), "trustDomain")
		}
	}
	if c.CAPin != "" {
		if pin, err := hex.DecodeString(c.CAPin); err != nil || len(pin) != 32 {
			v.fail("rotunda token create prints a token that carries it", "must be a SHA-256 in 64 hexadecimal digits", "caPin")
		}
	}
	if c.LogKey != "" {
		if _, err := note.NewVerifier(c.LogKey); err != nil {
			v.fail("rotunda token create prints a token that carries it", "must be the verifier key of a log", "logKey")
		}
	}
}

func (v *configCheck) checkCommands(c *Config) {
	for name, declared := range c.Commands {
		v.name(name, "commands", name)
		for _, problem := range declared.Problems() {
			at := []any{"commands", name}
			if problem.Field != "" {
				at = append(at, problem.Field)
			}
			if problem.Field == "argv" {
				at = append(at, 0)
			}
			v.fail(problem.Remedy, problem.Rule, at...)
		}
	}
}

func (v *configCheck) checkTargets(c *Config) {
	for name, t := range c.Targets {
		if _, err := target.Lookup(fleet.TargetKind(t.Kind)); err != nil {
			v.fail("rotunda targets lists the kinds", err.Error(), "targets", name, "kind")
		}
		for _, path := range []struct{ field, value string }{
			{"passwordFile", t.PasswordFile}, {"pidFile", t.PIDFile}, {"program", t.Program},
		} {
			if path.value != "" {
				v.absolute(path.value, "targets", name, path.field)
			}
		}
		if t.Address != "" && !filepath.IsAbs(t.Address) {
			v.loopback(t.Address, "targets", name, "address")
			v.secrets(name, t)
		}
		if t.PasswordFile != "" && t.Address == "" {
			v.fail("write the control path's address, or remove it", "a password is of no use without an address", "targets", name, "passwordFile")
		}
		if t.Program == "" && (len(t.Arguments) > 0 || t.RunAs != "") {
			v.fail("write program, or remove them", "arguments and runAs are for a program", "targets", name, "program")
		}
	}
}

// secrets wants a unix socket where something secret is said. On a port, any
// user of the host can listen while the server is down. Only PostgreSQL's way
// in does not show him the password; HAProxy is given private keys.
func (v *configCheck) secrets(name string, t TargetConfig) {
	const ports = "on a port any user of this host can listen while the server is down"
	switch kind := fleet.TargetKind(t.Kind); {
	case kind == fleet.TargetHAProxy:
		v.fail("write the path of its stats socket", fmt.Sprintf("%q: must be its unix socket: it is given private keys, and %s", t.Address, ports), "targets", name, "address")
	case t.PasswordFile != "" && kind != fleet.TargetPostgres:
		v.fail("write the path of its unix socket, or remove passwordFile", fmt.Sprintf("%q: must be its unix socket where there is a passwordFile: %s", t.Address, ports), "targets", name, "address")
	}
}

// loopback wants an address that nobody else can listen in on: what goes over
// a control path is in the plain.
func (v *configCheck) loopback(address string, at ...any) {
	v.hostPort(address, at...)
	host, _, _ := net.SplitHostPort(address)
	if ip := net.ParseIP(host); host != "localhost" && (ip == nil || !ip.IsLoopback()) {
		v.fail("write a unix socket, or 127.0.0.1:port", fmt.Sprintf("%q: a control path speaks in the plain, and must not leave the host", address), at...)
	}
}

func (v *configCheck) name(name string, at ...any) {
	if !configName.MatchString(name) {
		v.fail("write it like restart-etcd", fmt.Sprintf("name %q: must be lower-case letters, digits, '-' and '.', at most 63", name), at...)
	}
}

func (v *configCheck) notEmpty(value string, at ...any) {
	if value == "" {
		v.fail("remove it", "must not be empty", at...)
	}
}

func (v *configCheck) absolute(path string, at ...any) {
	if !filepath.IsAbs(path) {
		v.fail("write the whole path", fmt.Sprintf("path %q: must be absolute", path), at...)
	}
}

func (v *configCheck) hostPort(address string, at ...any) {
	host, port, err := net.SplitHostPort(address)
	if n, perr := strconv.Atoi(port); err != nil || perr != nil || n < 1 || n > 65535 || host == "" && at[0] == "servers" {
		v.fail("write it like control.example.org:8443", fmt.Sprintf("%q: must be host:port", address), at...)
	}
}

func (v *configCheck) fail(remedy, message string, at ...any) {
	field := ""
	for _, step := range at {
		switch step := step.(type) {
		case int:
			field += fmt.Sprintf("[%d]", step)
		case string:
			if field != "" {
				field += "."
			}
			field += step
		}
	}
	place := v.path
	if line := lineOf(v.tree, at); line > 0 {
		place = fmt.Sprintf("%s:%d", v.path, line)
	}
	v.errs = append(v.errs, fault.New(fault.Invalid, "%s: %s: %s", place, field, message).WithRemedy("%s", remedy))
}

// lineOf finds the line of a field, or of the nearest thing around it.
func lineOf(node *yaml.Node, at []any) int {
	if node.Kind == yaml.DocumentNode && len(node.Content) > 0 {
		node = node.Content[0]
	}
	line := node.Line
	for _, step := range at {
		var next *yaml.Node
		switch step := step.(type) {
		case int:
			if node.Kind == yaml.SequenceNode && step < len(node.Content) {
				next = node.Content[step]
				line = next.Line
			}
		case string:
			for i := 0; node.Kind == yaml.MappingNode && i+1 < len(node.Content); i += 2 {
				if node.Content[i].Value == step {
					next, line = node.Content[i+1], node.Content[i].Line
				}
			}
		}
		if next == nil {
			return line
		}
		node = next
		if node.Line > 0 && node.Kind == yaml.ScalarNode {
			line = node.Line
		}
	}
	return line
}
