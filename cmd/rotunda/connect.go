package main

import (
	"net"
	"net/url"
	"os"
	"path/filepath"
	"strings"
	"time"

	"github.com/spf13/pflag"
	"go.yaml.in/yaml/v3"

	"github.com/rotunda-pki/rotunda/internal/fault"
)

const defaultSocket = "/run/rotunda/admin.sock"

// connection is what the operator said about how to reach the server.
type connection struct {
	server      string
	credentials string
	socket      string
	state       string
	timeout     time.Duration
}

func connectionFlags(flags *pflag.FlagSet) *connection {
	c := &connection{}
	flags.StringVar(&c.server, "server", "", "the operators' `URL` of a server ($ROTUNDA_SERVER; default: as client.yaml says)")
	flags.StringVar(&c.credentials, "credentials", "", "`directory` with cert.pem, key.pem, ca.pem and client.yaml ($ROTUNDA_CREDENTIALS)")
	flags.StringVar(&c.socket, "socket", "", "`path` of the server's admin socket ($ROTUNDA_SOCKET)")
	flags.StringVar(&c.state, "state", "", "a server's state `directory` on this machine, for its admin credentials")
	flags.DurationVar(&c.timeout, "timeout", 30*time.Second, "how long one call may take")
	return c
}

// endpoint is where the server is: a URL with credentials, or a socket.
type endpoint struct {
	url         string
	credentials string // directory
	socket      string
}

func (e endpoint) String() string {
	if e.socket != "" {
		return e.socket
	}
	return e.url
}

// locate decides between flags, environment and defaults.
func (c *connection) locate() (endpoint, error) {
	if err := c.oneWay(); err != nil {
		return endpoint{}, err
	}
	if c.socket != "" {
		return endpoint{socket: c.socket}, nil
	}
	if c.state != "" {
		return c.inState()
	}
	if c.credentials == "" && c.server == "" {
		if socket := os.Getenv("ROTUNDA_SOCKET"); socket != "" && os.Getenv("ROTUNDA_SERVER") == "" {
			return endpoint{socket: socket}, nil
		}
	}
	server := orEnv(c.server, "ROTUNDA_SERVER")
	credentials := orEnv(c.credentials, "ROTUNDA_CREDENTIALS")
	if credentials != "" {
		return withCredentials(server, credentials)
	}
	return byDefault(server)
}

// directory is where credentials would be, for what needs no server but a file
// beside them; empty where a socket is the way.
func (c *connection) directory() string {
	switch {
	case c.socket != "":
		return ""
	case c.state != "":
		return filepath.Join(c.state, "admin")
	}
	return orElse(orEnv(c.credentials, "ROTUNDA_CREDENTIALS"), ownCredentials())
}

func (c *connection) oneWay() error {
	if c.socket != "" && (c.server != "" || c.credentials != "" || c.state != "") {
		return usagef("--socket needs no --server, --credentials or --state: give one way to the server")
	}
	if c.state != "" && c.credentials != "" {
		return usagef("--state and --credentials both name credentials: give one of them")
	}
	return nil
}

func orEnv(flag, variable string) string {
	if flag != "" {
		return flag
	}
	return os.Getenv(variable)
}

// inState uses what rotunda init left in a state directory.
func (c *connection) inState() (endpoint, error) {
	admin, socket := filepath.Join(c.state, "admin"), filepath.Join(c.state, "admin.sock")
	switch {
	case exists(filepath.Join(admin, "cert.pem")):
		return withCredentials(c.server, admin)
	case exists(socket):
		return endpoint{socket: socket}, nil
	}
	return endpoint{}, fault.New(fault.NotFound, "%s has neither admin credentials nor an admin socket", c.state).
		WithRemedy("name the directory that rotunda init made, and start its server")
}

// byDefault tries the operator's own credentials, then this machine's server.
func byDefault(server string) (endpoint, error) {
	own := ownCredentials()
	if own != "" && exists(filepath.Join(own, "cert.pem")) {
		return withCredentials(server, own)
	}
	if server != "" {
		return endpoint{}, fault.New(fault.NotFound, "there are no credentials for %s", server).
			WithRemedy("say --credentials DIR, or put them into %s", own)
	}
	if exists(defaultSocket) {
		return endpoint{socket: defaultSocket}, nil
	}
	return endpoint{}, fault.New(fault.NotFound, "no server to speak with: neither %s nor %s exists", own, defaultSocket).
		WithRemedy("say --credentials DIR, --socket PATH or --state DIR; rotunda init makes a new server")
}

// ownCredentials is ~/.config/rotunda, or empty without a home directory.
func ownCredentials() string {
	config, err := os.UserConfigDir()
	if err != nil {
		return ""
	}
	return filepath.Join(config, "rotunda")
}

// withCredentials takes the URL from client.yaml unless server is given.
func withCredentials(server, dir string) (endpoint, error) {
	if server == "" {
		settings, err := readClientFile(filepath.Join(dir, "client.yaml"))
		if err != nil {
			return endpoint{}, err
		}
		server = settings.Server
	}
	address, err := serverURL(server)
	if err != nil {
		return endpoint{}, err
	}
	return endpoint{url: address, credentials: dir}, nil
}

// clientFile is client.yaml beside an operator's credentials.
type clientFile struct {
	Server string `yaml:"server"` // https://host:port of the operators' listener
}

func readClientFile(path string) (clientFile, error) {
	var settings clientFile
	content, err := os.ReadFile(path)
	if err != nil {
		return settings, fault.Wrap(fault.NotFound, err, "these credentials do not say which server is theirs").
			WithRemedy("say --server URL, or write 'server: https://HOST:PORT' into client.yaml")
	}
	if err := yaml.Unmarshal(content, &settings); err != nil {
		return settings, fault.Wrap(fault.Invalid, err, "read %s", path).
			WithRemedy("it holds one line: 'server: https://HOST:PORT'")
	}
	if settings.Server == "" {
		return settings, fault.New(fault.Invalid, "%s names no server", path).
			WithRemedy("write 'server: https://HOST:PORT' into it, or say --server URL")
	}
	return settings, nil
}

// serverURL accepts https://host:port and host:port.
func serverURL(text string) (string, error) {
	if !strings.Contains(text, "://") {
		text = "https://" + text
	}
	parsed, err := url.Parse(text)
	if err != nil {
		return "", usagef("the server %q is no URL: it is like https://HOST:PORT", text)
	}
	if parsed.Scheme != "https" || parsed.Hostname() == "" || strings.Trim(parsed.Path, "/") != "" {
		return "", usagef("the server %q is not like https://HOST:PORT", text)
	}
	if parsed.Port() == "" {
		return "", usagef("the server %q names no port: it is like https://HOST:PORT", text)
	}
	return "https://" + net.JoinHostPort(parsed.Hostname(), parsed.Port()), nil
}

func exists(path string) bool {
	_, err := os.Stat(path)
	return err == nil
}
