package forward

import (
	"crypto/tls"
	"crypto/x509"
	"fmt"
	"net"
	"net/http"
	"net/url"
	"os"
	"strings"

	"github.com/rotunda-pki/rotunda/internal/fault"
)

// Config is a sink, as rotunda.yaml names it.
type Config struct {
	// The sink's name. How far it has come is kept under it: another name is
	// given the whole log.
	Name string `yaml:"name"`
	// otlp: OpenTelemetry logs over HTTP. otlp-grpc: the same over gRPC. syslog:
	// RFC 5424 over TCP or TLS.
	Kind string `yaml:"kind"`
	// Of otlp a URL, https://HOST:4318/v1/logs; of otlp-grpc https://HOST:4317;
	// of syslog tls://HOST:6514 or tcp://HOST:PORT. What is not encrypted
	// (http, tcp) goes to loopback addresses only, unless plain says otherwise.
	Address string `yaml:"address"`
	// Lets entries leave the host unencrypted.
	Plain bool `yaml:"plain,omitempty"`
	// A file of lines "Name: value" that otlp sends as HTTP headers, and otlp-grpc
	// as metadata. It is read at each connection; others must not be able to read
	// it.
	HeadersFile string `yaml:"headersFile,omitempty"`
	// The CAs that the sink's certificate must chain to; without it the
	// system's.
	CAFile string `yaml:"caFile,omitempty"`
	// The certificate that is shown to the sink, and its key.
	CertFile string `yaml:"certFile,omitempty"`
	KeyFile  string `yaml:"keyFile,omitempty"`
}

// The kinds of sink.
const (
	KindOTLP     = "otlp"
	KindOTLPGRPC = "otlp-grpc"
	KindSyslog   = "syslog"
)

// Validate says what is wrong with the sink's settings, its files included.
func (c Config) Validate() error {
	if err := c.validate(); err != nil {
		return err
	}
	if _, err := c.headers(); err != nil {
		return err
	}
	_, err := c.tls()
	return err
}

func (c Config) validate() error {
	schemes := map[string][2]string{KindOTLP: {"https", "http"}, KindOTLPGRPC: {"https", "http"}, KindSyslog: {"tls", "tcp"}}
	scheme, known := schemes[c.Kind]
	u, err := url.Parse(c.Address)
	switch {
	case !known:
		return fault.New(fault.Invalid, "kind %q: it is otlp, otlp-grpc or syslog", c.Kind)
	case err != nil || u.Hostname() == "" || u.Scheme != scheme[0] && u.Scheme != scheme[1]:
		return fault.New(fault.Invalid, "address %q: a sink of kind %s wants %s://HOST", c.Address, c.Kind, scheme[0])
	case u.User != nil || u.Fragment != "":
		return fault.New(fault.Invalid, "address %q: it holds a user or a fragment", u.Redacted()).WithRemedy("secrets belong into headersFile")
	case c.Kind != KindOTLP && (u.Port() == "" || u.Path != "" || u.RawQuery != ""):
		return fault.New(fault.Invalid, "address %q: %s wants %s://HOST:PORT and nothing behind it", c.Address, c.Kind, u.Scheme)
	case u.Scheme == scheme[1] && !c.Plain && !isLoopback(u.Hostname()):
		return fault.New(fault.Invalid, "address %q: entries would leave the host unencrypted", c.Address).
			WithRemedy("write %s, or plain: true where the network is trusted with them", scheme[0])
	case c.Kind == KindSyslog && c.HeadersFile != "":
		return fault.New(fault.Invalid, "headersFile: syslog has no headers")
	case (c.CertFile == "") != (c.KeyFile == ""):
		return fault.New(fault.Invalid, "certFile and keyFile go together: one of the two is missing")
	}
	return nil
}

func isLoopback(host string) bool {
	ip := net.ParseIP(host)
	return host == "localhost" || ip != nil && ip.IsLoopback()
}

// headers reads the headers of headersFile.
func (c Config) headers() (http.Header, error) {
	header := http.Header{}
	if c.HeadersFile == "" {
		return header, nil
	}
	info, err := os.Stat(c.HeadersFile)
	if err != nil {
		return nil, fault.Wrap(fault.Invalid, err, "headersFile")
	}
	if info.Mode().Perm()&0o007 != 0 {
		return nil, fault.New(fault.Invalid, "headersFile: everybody may read %s", c.HeadersFile).WithRemedy("chmod o= %s", c.HeadersFile)
	}
	content, err := os.ReadFile(c.HeadersFile)
	if err != nil {
		return nil, fault.Wrap(fault.Invalid, err, "headersFile")
	}
	for i, line := range strings.Split(string(content), "\n") {
		line = strings.TrimSpace(line)
		if line == "" {
			continue
		}
		name, value, found := strings.Cut(line, ":")
		if !found || !isToken(name) || !isText(value) { // the line itself may be a secret
			return nil, fault.New(fault.Invalid, "headersFile: line %d of %s is not a header", i+1, c.HeadersFile).WithRemedy("write Name: value")
		}
		if c.Kind == KindOTLPGRPC && !isMetadata(name, value) {
			return nil, fault.New(fault.Invalid, "headersFile: line %d of %s can't be metadata of gRPC", i+1, c.HeadersFile).
				WithRemedy("a name of letters, digits, _, - and . that does not begin with grpc- nor end with -bin, and a value in ASCII")
		}
		header.Add(name, strings.TrimSpace(value))
	}
	return header, nil
}

// isToken and isText are the grammar of a header's name and value (RFC 9110
// section 5).
func isToken(name string) bool {
	for i := range len(name) {
		c := name[i]
		letter := 'a' <= c|0x20 && c|0x20 <= 'z'
		if !letter && !('0' <= c && c <= '9') && !strings.ContainsRune("!#$%&'*+-.^_`|~", rune(c)) {
			return false
		}
	}
	return name != ""
}

func isText(value string) bool {
	for i := range len(value) {
		if value[i] < ' ' && value[i] != '\t' || value[i] == 0x7f {
			return false
		}
	}
	return true
}

// isMetadata is what of these gRPC carries as text: it has fewer signs in a name.
func isMetadata(name, value string) bool {
	name = strings.ToLower(name)
	for i := range len(value) {
		if value[i] < ' ' || value[i] > '~' {
			return false
		}
	}
	return !strings.ContainsAny(name, "!#$%&'*+^`|~") && !strings.HasPrefix(name, "grpc-") && !strings.HasSuffix(name, "-bin")
}

// tls reads the files anew, so that what replaced them is used by the next
// connection.
func (c Config) tls() (*tls.Config, error) {
	config := &tls.Config{MinVersion: tls.VersionTLS12}
	if c.CAFile != "" {
		content, err := os.ReadFile(c.CAFile)
		if err != nil {
			return nil, fault.Wrap(fault.Invalid, err, "caFile")
		}
		config.RootCAs = x509.NewCertPool()
		if !config.RootCAs.AppendCertsFromPEM(content) {
			return nil, fault.New(fault.Invalid, "caFile: %s holds no certificate in PEM", c.CAFile)
		}
	}
	if c.CertFile != "" {
		certificate, err := tls.LoadX509KeyPair(c.CertFile, c.KeyFile)
		if err != nil {
			return nil, fault.Wrap(fault.Invalid, err, "certFile and keyFile")
		}
		config.Certificates = []tls.Certificate{certificate}
	}
	return config, nil
}

// CheckAll says what is wrong with the sinks of a rotunda.yaml.
func CheckAll(configs []Config) error {
	seen := map[string]bool{}
	for i, c := range configs {
		at := fmt.Sprintf("forward[%d]", i)
		if !isName(c.Name) {
			return fault.New(fault.Invalid, "%s: name %q must be 1 to 63 of a-z, 0-9 and -", at, c.Name)
		}
		if seen[c.Name] {
			return fault.New(fault.Invalid, "%s: another sink is called %s", at, c.Name)
		}
		seen[c.Name] = true
		if err := c.Validate(); err != nil {
			return fault.Wrap(fault.Invalid, err, "%s (%s)", at, c.Name)
		}
	}
	return nil
}

func isName(name string) bool {
	for _, c := range name {
		if c != '-' && (c < 'a' || c > 'z') && (c < '0' || c > '9') {
			return false
		}
	}
	return name != "" && len(name) <= 63
}
