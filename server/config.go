package server

import (
	"bytes"
	"cmp"
	"errors"
	"io"
	"maps"
	"net"
	"os"
	"path/filepath"
	"regexp"
	"slices"
	"strings"

	"go.yaml.in/yaml/v3"

	"github.com/rotunda-pki/rotunda/fleet"
	"github.com/rotunda-pki/rotunda/forward"
	"github.com/rotunda-pki/rotunda/internal/command"
	"github.com/rotunda-pki/rotunda/internal/fault"
	"github.com/rotunda-pki/rotunda/store"
	"github.com/rotunda-pki/rotunda/witness"
)

// Config is rotunda.yaml: the settings of the server's process. All else is a
// document.
type Config struct {
	// The trust domain that the store must be of. Empty: whichever it is of.
	TrustDomain string `yaml:"trustDomain"`
	// Where the server listens. An empty address: not at all.
	Listen Listen `yaml:"listen"`
	// A unix socket for operators on this machine: uid 0 and the server's own
	// user may use it. It needs no certificate.
	AdminSocket string `yaml:"adminSocket"`
	// The base of the URLs of CRLs and issuers that stand in every
	// certificate. It must reach the public listener, and stay so.
	PublicURL string `yaml:"publicURL"`
	// The host:port that agents are told to connect to.
	AgentAddress string `yaml:"agentAddress"`
	// The DNS names and IP addresses of this server's own certificate.
	Names []string `yaml:"names"`
	// The database file, whose relative path is in the state directory, or the
	// URL of a PostgreSQL database that servers share.
	Store string `yaml:"store"`
	// Where the key comes from that opens the keys in the store.
	KEK KEK `yaml:"kek"`
	// The commands that gates of rollouts may name, beside listeners and the
	// like: no command line ever comes from a caller or a document.
	Commands map[string]command.Config `yaml:"commands,omitempty"`
	// How owners of services are told of changes.
	Notices Notices `yaml:"notices,omitempty"`
	// Where entries of the audit log are sent on.
	Forward []forward.Config `yaml:"forward,omitempty"`
	// For how long what is over is kept, and where archives lie.
	Retention Retention `yaml:"retention,omitempty"`
	// Who outside cosigns the audit log's checkpoints.
	Witnesses witness.Config `yaml:"witnesses,omitempty"`
	// What this server does while the store that it shares is away: refuse, or
	// spool: go on renewing what it knows, and hand it in later.
	OnStoreOutage string `yaml:"onStoreOutage,omitempty"`
	// How far that goes.
	Spool Spool `yaml:"spool,omitempty"`
	// How much is taken on at once.
	Limits Limits `yaml:"limits,omitempty"`
	// The least severe log lines written: debug, info, warn or error.
	LogLevel string `yaml:"logLevel,omitempty"`
}

// Listen is where the server listens, host:port each.
type Listen struct {
	Agents    string `yaml:"agents"`    // gRPC, TLS; a client certificate for all but enrolment
	Operators string `yaml:"operators"` // Connect, mutual TLS
	Public    string `yaml:"public"`    // plain HTTP: CRLs, issuers, bundle, audit log, health
	Metrics   string `yaml:"metrics"`   // plain HTTP: Prometheus; keep it off the network
}

// KEK is the source of the key encryption key: exactly one of the two.
type KEK struct {
	File       string `yaml:"file,omitempty"`       // relative paths are in the state directory
	Credential string `yaml:"credential,omitempty"` // the name of a systemd credential
}

// Notices is how owners of services are told of changes.
type Notices struct {
	// Where it is posted for services whose document names no owner.notify: an
	// https URL. Empty: nowhere.
	URL string `yaml:"url,omitempty"`
	// The file with the secret that notices are signed with, at least 16 bytes;
	// relative paths are in the state directory. It is read at each use.
	// Without it none is posted.
	SecretFile string `yaml:"secretFile,omitempty"`
}

// minSecret is how many bytes the secret of notices has at least.
const minSecret = 16

// secret reads the secret that notices are signed with.
func (n Notices) secret() ([]byte, error) {
	if n.SecretFile == "" {
		return nil, fault.New(fault.Invalid, "rotunda.yaml names no notices.secretFile: nothing is posted unsigned")
	}
	info, err := os.Stat(n.SecretFile)
	if err != nil {
		return nil, fault.Wrap(fault.Invalid, err, "notices.secretFile")
	}
	if info.Mode().Perm()&0o007 != 0 {
		return nil, fault.New(fault.Invalid, "notices.secretFile: everybody may read %s", n.SecretFile).WithRemedy("chmod o= %s", n.SecretFile)
	}
	secret, err := os.ReadFile(n.SecretFile)
	if err != nil {
		return nil, fault.Wrap(fault.Invalid, err, "notices.secretFile")
	}
	secret = bytes.TrimRight(secret, "\r\n")
	if len(secret) < minSecret {
		return nil, fault.New(fault.Invalid, "notices.secretFile: %s holds %d bytes, at least %d are wanted", n.SecretFile, len(secret), minSecret).
			WithRemedy("openssl rand -hex 32 > %s", n.SecretFile)
	}
	return secret, nil
}

// CommandNames are the commands that gates may name.
func (c Config) CommandNames() []string { return slices.Sorted(maps.Keys(c.Commands)) }

func (c Config) commands() map[string]command.Command {
	all := map[string]command.Command{}
	for name, declared := range c.Commands {
		all[name] = declared.Command(name, "rotunda.yaml")
	}
	return all
}

// LoadConfig reads STATE/rotunda.yaml and makes its paths absolute.
func LoadConfig(state string) (Config, error) {
	path := filepath.Join(state, "rotunda.yaml")
	content, err := os.ReadFile(path)
	if errors.Is(err, os.ErrNotExist) {
		return Config{}, fault.New(fault.NotFound, "%s does not exist", path).
			WithRemedy("make a trust domain with rotunda init, or name its directory with --state")
	}
	if err != nil {
		return Config{}, err
	}
	var config Config
	decoder := yaml.NewDecoder(bytes.NewReader(content))
	decoder.KnownFields(true)
	if err := decoder.Decode(&config); err != nil && !errors.Is(err, io.EOF) {
		plain := unknownField.ReplaceAllString(err.Error(), "$1 is no setting of rotunda.yaml")
		return Config{}, fault.New(fault.Invalid, "read %s: %s", path, plain)
	}
	if err := config.validate(); err != nil {
		return Config{}, fault.Wrap(fault.Invalid, err, "%s", path)
	}
	for i := range config.Forward {
		sink := &config.Forward[i]
		for _, file := range []*string{&sink.HeadersFile, &sink.CAFile, &sink.CertFile, &sink.KeyFile} {
			*file = within(state, *file)
		}
	}
	if err := forward.CheckAll(config.Forward); err != nil {
		return Config{}, fault.Wrap(fault.Invalid, err, "%s", path)
	}
	if err := config.Witnesses.Validate(); err != nil {
		return Config{}, fault.Wrap(fault.Invalid, err, "%s", path)
	}
	if !store.IsURL(config.Store) {
		config.Store = within(state, config.Store)
	}
	config.KEK.File = within(state, config.KEK.File)
	config.Notices.SecretFile = within(state, config.Notices.SecretFile)
	if config.Notices.SecretFile != "" {
		if _, err := config.Notices.secret(); err != nil {
			return Config{}, fault.Wrap(fault.Invalid, err, "%s", path)
		}
	}
	config.AdminSocket = within(state, config.AdminSocket)
	config.Retention.within(state)
	config.Spool.Directory = within(state, cmp.Or(config.Spool.Directory, spoolByName))
	return config, nil
}

// unknownField is how the YAML library says that a struct has no such field.
var unknownField = regexp.MustCompile(`field (\S+) not found in type \S+`)

// within makes a path that is not absolute one in dir. Empty stays empty.
func within(dir, path string) string {
	if path == "" || filepath.IsAbs(path) {
		return path
	}
	return filepath.Join(dir, path)
}

func (c Config) validate() error {
	for name, address := range map[string]string{
		"listen.agents": c.Listen.Agents, "listen.operators": c.Listen.Operators,
		"listen.public": c.Listen.Public, "listen.metrics": c.Listen.Metrics,
	} {
		if address == "" {
			continue
		}
		if _, _, err := net.SplitHostPort(address); err != nil {
			return fault.New(fault.Invalid, "%s: %q is not host:port", name, address)
		}
	}
	switch {
	case c.Listen.Agents == "":
		return fault.New(fault.Invalid, "listen.agents is missing: agents have nowhere to connect to")
	case c.Listen.Operators == "" && c.AdminSocket == "":
		return fault.New(fault.Invalid, "neither listen.operators nor adminSocket is set: operators have nowhere to connect to")
	case !strings.HasPrefix(c.PublicURL, "http://") || strings.HasSuffix(c.PublicURL, "/"):
		return fault.New(fault.Invalid, "publicURL: %q must begin with http:// and not end with a slash: verifiers fetch CRLs over plain HTTP, since they are signed", c.PublicURL)
	case len(c.Names) == 0:
		return fault.New(fault.Invalid, "names is empty: the server's certificate needs at least one DNS name or IP address")
	case c.Store == "":
		return fault.New(fault.Invalid, "store is missing")
	case (c.KEK.File == "") == (c.KEK.Credential == ""):
		return fault.New(fault.Invalid, "kek wants a file or a credential, and exactly one of them")
	}
	for _, name := range slices.Sorted(maps.Keys(c.Commands)) {
		if _, err := fleet.ParseName(name); err != nil {
			return fault.Wrap(fault.Invalid, err, "commands")
		}
		for _, problem := range c.Commands[name].Problems() {
			at := strings.TrimSuffix("commands."+name+"."+problem.Field, ".")
			return fault.New(fault.Invalid, "%s: %s", at, problem.Rule).WithRemedy("%s", problem.Remedy)
		}
	}
	if err := c.Retention.validate(); err != nil {
		return err
	}
	if err := c.validateSpool(); err != nil {
		return err
	}
	if err := c.Limits.Validate(); err != nil {
		return err
	}
	if c.Notices.URL != "" {
		if err := fleet.CheckNotifyURL(c.Notices.URL); err != nil {
			return fault.Wrap(fault.Invalid, err, "notices.url")
		}
		if c.Notices.SecretFile == "" {
			return fault.New(fault.Invalid, "notices.url without notices.secretFile: nothing is posted unsigned").
				WithRemedy("openssl rand -hex 32 > notices.secret; chmod 600 notices.secret; and name it as secretFile")
		}
	}
	return nil
}
