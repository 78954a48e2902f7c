package fleet

import (
	"regexp"
	"slices"
	"time"

	"github.com/rotunda-pki/rotunda/internal/fault"
)

// Intent says that the instances of a service hold a certificate like this,
// delivered like that. Without an identity it delivers a bundle only.
//
// The fields of identity, target.name, target.cluster, target.address,
// target.serverName and files.directory may hold templates: {{ labels.x }},
// {{ instance }}, {{ agent }}, {{ region }}, {{ zone }}, {{ trustDomain }}.
type Intent struct {
	// The service whose processes these are.
	Service Name `json:"service"`
	// The labels of the agents on whose hosts they run; an agent must have
	// all of them.
	Selector map[string]string `json:"selector,omitempty"`
	// Selects every agent, in place of a selector.
	AllAgents bool `json:"allAgents,omitempty"`
	// The instances on each selected host. Default: one, "main".
	Instances []Name `json:"instances,omitempty"`
	// What the certificate is like. Not used without an identity.
	Profile Name `json:"profile,omitempty"`
	// Whom the certificate names. Absent: only the bundle is delivered.
	Identity *Identity `json:"identity,omitempty"`
	// The anchors that are delivered. Default: the trust domain's own.
	Bundle Name `json:"bundle"`
	// The running process, and how it takes what is delivered.
	Target Target `json:"target"`
	// Where the files go.
	Files Files `json:"files"`
	// What counts as done.
	Proof Proof `json:"proof"`
	// It serves nobody, and rotates all the time to show that a rotation works
	// from end to end where it is: have one in each region.
	Synthetic *Synthetic `json:"synthetic,omitempty"`
}

// Synthetic makes an intent an end-to-end test.
type Synthetic struct {
	// How often each of its placements gets a new key and certificate, 1m to
	// 24h. It counts as behind when nothing was proven for three times as long.
	Every Duration `json:"every"`
}

func (*Intent) kind() Kind { return KindIntent }

// Identity is whom a certificate names.
type Identity struct {
	// The subject's common name. Optional; verifiers look at the other names.
	CommonName string `json:"commonName,omitempty"`
	// DNS names.
	DNSNames []string `json:"dnsNames,omitempty"`
	// IP addresses.
	IPAddresses []string `json:"ipAddresses,omitempty"`
	// The path of a SPIFFE ID in the trust domain, such as /orders/api.
	SPIFFEPath string `json:"spiffePath,omitempty"`
}

// Target is the running process, and how it takes what is delivered.
type Target struct {
	// The kind of server: redis, postgres, nginx, ... (rotunda targets lists
	// them), or files for anything that reads files.
	Kind TargetKind `json:"kind"`
	// The process's name on its host. Intents with the same name are
	// placements of one process. Default: the intent's name, with the
	// instance's where it is not "main".
	Name string `json:"name,omitempty"`
	// The cluster that the process is a member of: few members of one
	// cluster rotate at a time.
	Cluster string `json:"cluster,omitempty"`
	// How many members of the cluster may be out of their steady state at
	// once, at most 100; the same in all intents of a cluster. Default: 1.
	MaxUnavailable int `json:"maxUnavailable,omitempty"`
	// Where the process serves TLS, host:port. Empty: nothing listens, and
	// nothing can be proven.
	Address string `json:"address,omitempty"`
	// The name to ask for in the handshake. Default: the first DNS name.
	ServerName string `json:"serverName,omitempty"`
	// The protocol around TLS: what is said before it begins (postgres, mysql,
	// nats) or once it stands (http, redis, memcached, amqp, mqtt). Default:
	// the kind's own.
	Preamble Preamble `json:"preamble,omitempty"`
	// Whether the process asks its clients for a certificate: required,
	// optional or none. Empty: not looked at.
	ClientAuth ClientAuthMode `json:"clientAuth,omitempty"`
	// The command, named in the host's agent.yaml, that makes the process
	// read its files again.
	ReloadCommand string `json:"reloadCommand,omitempty"`
	// The command, named in the host's agent.yaml, that restarts the process.
	RestartCommand string `json:"restartCommand,omitempty"`
}

// Files says where what is delivered goes.
type Files struct {
	// The placement's own directory, absolute. The process reads
	// DIRECTORY/current/{cert,key,chain,bundle}.pem.
	Directory string `json:"directory"`
	// The user that owns the files. Empty: the agent's own.
	Owner string `json:"owner,omitempty"`
	// The group that owns the files. Empty: the agent's own.
	Group string `json:"group,omitempty"`
	// The permission bits of the key file, in octal.
	Mode Mode `json:"mode"`
	// Which forms are written: pem, combined, pkcs12, jks.
	Formats []Format `json:"formats,omitempty"`
	// The password file, named in the host's agent.yaml, for keystores.
	Password string `json:"password,omitempty"`
}

// Proof is what counts as done.
type Proof struct {
	// The level that a rotation must reach: delivered, loaded or proven.
	// Default: proven where the target has an address, else delivered.
	Level Level `json:"level"`
	// How long handshakes go on, so that one old worker is seen.
	Observe Duration `json:"observe"`
	// How long to try before the rotation counts as failed.
	Timeout Duration `json:"timeout"`
}

// TargetKind is a kind of server.
type TargetKind string

// advice is for a kind that is not known.
func (TargetKind) advice() string {
	return "use files for a server that has no kind of its own, with a reloadCommand; rotunda targets shows what each kind can do"
}

// The kinds of targets.
const (
	TargetEtcd      TargetKind = "etcd"
	TargetFiles     TargetKind = "files"
	TargetHAProxy   TargetKind = "haproxy"
	TargetMariaDB   TargetKind = "mariadb"
	TargetMemcached TargetKind = "memcached"
	TargetMosquitto TargetKind = "mosquitto"
	TargetNATS      TargetKind = "nats"
	TargetNginx     TargetKind = "nginx"
	TargetPostgres  TargetKind = "postgres"
	TargetRabbitMQ  TargetKind = "rabbitmq"
	TargetRedis     TargetKind = "redis"
)

func (TargetKind) values() []string {
	return []string{
		string(TargetEtcd), string(TargetFiles), string(TargetHAProxy), string(TargetMariaDB), string(TargetMemcached),
		string(TargetMosquitto), string(TargetNATS), string(TargetNginx), string(TargetPostgres), string(TargetRabbitMQ), string(TargetRedis),
	}
}

// Preamble names the protocol around TLS: one that starts in the plain
// (postgres, mysql, nats), or what is said once TLS stands (http, redis,
// memcached, amqp, mqtt), one harmless question, so that the server answers
// whether it took the client's certificate.
type Preamble string

func (Preamble) values() []string {
	return []string{"postgres", "mysql", "nats", "http", "redis", "memcached", "amqp", "mqtt"}
}

// ClientAuthMode says whether a server asks for client certificates.
type ClientAuthMode string

func (ClientAuthMode) values() []string { return []string{"required", "optional", "none"} }

// Format is a form in which certificate and key are written.
type Format string

// The formats.
const (
	FormatPEM      Format = "pem"
	FormatCombined Format = "combined"
	FormatPKCS12   Format = "pkcs12"
	FormatJKS      Format = "jks"
)

func (Format) values() []string {
	return []string{string(FormatPEM), string(FormatCombined), string(FormatPKCS12), string(FormatJKS)}
}

// Level is how much is known: delivered (the bytes are on the host), loaded
// (the process said that it took them), proven (a handshake with the running
// process showed it).
type Level string

// The levels, lowest first.
const (
	Delivered Level = "delivered"
	Loaded    Level = "loaded"
	Proven    Level = "proven"
)

func (Level) values() []string { return []string{string(Delivered), string(Loaded), string(Proven)} }

// Mode is a file's permission bits in octal, such as "0640". Nobody but owner
// and group has any.
type Mode string

const modePattern = `^0[46][0246]0$`

var modeForm = regexp.MustCompile(modePattern)

// UnmarshalText implements encoding.TextUnmarshaler.
func (m *Mode) UnmarshalText(text []byte) error {
	if !modeForm.Match(text) {
		return fault.New(fault.Invalid, "%s is not a key file's mode: it must be octal such as \"0640\" or \"0600\", read or write for owner and group, nothing for others", quote(string(text)))
	}
	*m = Mode(text)
	return nil
}

func defaultIntent() *Intent {
	return &Intent{
		Instances: []Name{"main"},
		Bundle:    DefaultBundle,
		Target:    Target{Kind: TargetFiles},
		Files:     Files{Mode: "0640", Formats: []Format{FormatPEM}},
		Proof:     Proof{Observe: Duration(300 * time.Millisecond), Timeout: Duration(10 * time.Second)},
	}
}

func (in *Intent) complete(given func(string) bool) {
	if given("spec.proof.level") {
		return
	}
	in.Proof.Level = Delivered
	if in.Target.Address != "" && in.Identity != nil {
		in.Proof.Level = Proven
	}
}

// Selects says whether an agent with these labels is one of the intent's.
func (in *Intent) Selects(labels map[string]string) bool {
	if in.AllAgents {
		return true
	}
	for key, value := range in.Selector {
		if got, ok := labels[key]; !ok || got != value {
			return false
		}
	}
	return len(in.Selector) > 0
}

// TrustLevel is the highest level at which a placement can show whom its
// process trusts: by canaries, where it asks its clients for certificates. The
// profile is nil where only a bundle is delivered.
func TrustLevel(profile *Profile, t Target, proof Proof) Level {
	asks := t.ClientAuth == "required" || t.ClientAuth == "optional"
	serves := profile != nil && slices.Contains(profile.Usages, ServerAuth)
	switch {
	case asks && serves && t.Address != "" && proof.Level == Proven:
		return Proven
	case proof.Level == Delivered:
		return Delivered
	}
	return Loaded
}
