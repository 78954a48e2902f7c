package fleet

import (
	"slices"
	"strings"
)

// maxUnavailable bounds what an intent may say: a cluster of which more may be
// away has no use for slots.
const maxUnavailable = 100

func (v *validator) target(in *Intent) {
	t := in.Target
	v.required("spec.target.kind", string(t.Kind), "write the kind of server, or files for anything that reads files")
	v.address(t)
	v.clusterOf(t)
	v.commands(in)
	if t.Kind != TargetFiles {
		v.server(in)
	}
	switch t.Kind {
	case TargetEtcd:
		v.etcd(in)
	case TargetHAProxy:
		v.haproxy(in)
	case TargetPostgres:
		v.postgres(in)
	case TargetRedis:
		v.redis(in)
	}
}

func (v *validator) address(t Target) {
	if t.Address != "" && !hasTemplate(t.Address) {
		if err := checkAddress(t.Address); err != nil {
			v.fail("spec.target.address", "value", "write host:port", "%v", err)
		}
	}
	if t.Address != "" || t.Kind != TargetFiles {
		return // a server without one is server's to find
	}
	for _, only := range []struct{ path, value string }{
		{"spec.target.serverName", t.ServerName},
		{"spec.target.preamble", string(t.Preamble)},
		{"spec.target.clientAuth", string(t.ClientAuth)},
	} {
		if only.value != "" {
			v.fail(only.path, "combination", "write target.address, or remove it", "%s says how to shake hands, but the target has no address", only.path)
		}
	}
}

// clusterOf checks what is said of the cluster's slots.
func (v *validator) clusterOf(t Target) {
	const at = "spec.target.maxUnavailable"
	switch {
	case t.MaxUnavailable < 0 || t.MaxUnavailable > maxUnavailable:
		v.fail(at, "value", "write how many members the cluster can do without, or leave it out for 1",
			"maxUnavailable is %d; it must be 1 to %d", t.MaxUnavailable, maxUnavailable)
	case t.MaxUnavailable > 0 && t.Cluster == "":
		v.fail(at, "combination", "name the cluster in target.cluster, or remove it", "maxUnavailable counts members of a cluster, and the target is in none")
	}
}

func (v *validator) commands(in *Intent) {
	for _, command := range []struct{ path, name string }{
		{"spec.target.reloadCommand", in.Target.ReloadCommand},
		{"spec.target.restartCommand", in.Target.RestartCommand},
		{"spec.files.password", in.Files.Password},
	} {
		if command.name != "" && !hasTemplate(command.name) && !nameForm.MatchString(command.name) {
			v.fail(command.path, "value", "write the name that agent.yaml gives it, such as restart-etcd", "%s is %s: it must be a name, not a command line or a path", command.path, quote(command.name))
		}
	}
}

// server checks what every kind of server needs: where to look at it, and the
// protocol that it speaks.
func (v *validator) server(in *Intent) {
	t := in.Target
	if t.Address == "" {
		v.fail("spec.target.address", "required", "write where it serves TLS, host:port", "a target of kind %s needs an address: without one nothing can be proven", t.Kind)
	}
	speaks := spoken(t.Kind)
	if t.Preamble == "" || slices.Contains(speaks, string(t.Preamble)) {
		return
	}
	v.fail("spec.target.preamble", "combination", "remove it, or write "+strings.Join(speaks, " or "), "a target of kind %s does not speak %s", t.Kind, t.Preamble)
}

// spoken lists the preambles that fit a kind of server. A proxy speaks what
// stands behind it, but nothing that begins in the plain.
func spoken(kind TargetKind) []string {
	switch kind {
	case TargetEtcd:
		return []string{"http"}
	case TargetHAProxy, TargetNginx:
		return []string{"http", "redis", "memcached", "amqp", "mqtt"}
	case TargetMariaDB:
		return []string{"mysql"}
	case TargetMemcached:
		return []string{"memcached"}
	case TargetMosquitto:
		return []string{"mqtt", "http"}
	case TargetNATS:
		return []string{"nats"}
	case TargetPostgres:
		return []string{"postgres"}
	case TargetRabbitMQ:
		return []string{"amqp", "mqtt", "http"}
	case TargetRedis:
		return []string{"redis"}
	}
	return nil
}

// etcd: its peers and its gateway are clients with the server's certificate,
// and members that rotate together lose the quorum together.
func (v *validator) etcd(in *Intent) {
	if in.Target.Cluster == "" {
		v.warn("spec.target.cluster", "etcd", "name the cluster", "without target.cluster members may rotate at the same time")
	}
	v.bothUsages(in, "etcd", "etcd's peers, and its JSON gateway, use the server's certificate as a client too")
}

// redis: a replica calls its master with the server's certificate.
func (v *validator) redis(in *Intent) {
	if in.Target.Cluster != "" {
		v.bothUsages(in, "redis", "a replica calls its master with the server's certificate")
	}
}

func (v *validator) bothUsages(in *Intent, rule, why string) {
	p, ok := v.set.Profile(in.Profile)
	if ok && in.Identity != nil && len(p.Usages) == 1 {
		v.warn("spec.profile", rule, "use a profile with usages [serverAuth, clientAuth]", "%s; profile %s is for %s only", why, in.Profile, p.Usages[0])
	}
}

// haproxy reads certificate and key from one file.
func (v *validator) haproxy(in *Intent) {
	if in.Identity != nil && len(in.Files.Formats) > 0 && !slices.Contains(in.Files.Formats, FormatCombined) {
		v.fail("spec.files.formats", "combination", "write formats: [pem, combined], and crt DIRECTORY/current/combined.pem in haproxy.cfg",
			"HAProxy reads certificate and key from one file, and files.formats has no combined")
	}
}

// postgres refuses to start, or to reload, with a key that others than its own
// user may touch, unless it is root's and the group may only read it.
func (v *validator) postgres(in *Intent) {
	const remedy = `write owner: postgres and mode: "0600", or owner: root, group: postgres and mode: "0640"`
	f := in.Files
	if in.Identity == nil || len(f.Mode) != 4 {
		return
	}
	root := f.Owner == "root" || f.Owner == "0"
	switch group := f.Mode[2]; {
	case group != '0' && group != '4':
		v.fail("spec.files.mode", "postgres", remedy, "mode %s lets the group write: PostgreSQL refuses such a key", f.Mode)
	case group == '4' && f.Owner != "" && !root:
		v.fail("spec.files.mode", "postgres", remedy, "mode %s with owner %s: PostgreSQL takes a key that its group may read from root only", f.Mode, f.Owner)
	case group == '4' && f.Group == "":
		v.fail("spec.files.group", "postgres", remedy, "mode %s without a group: PostgreSQL, which never runs as root, could not read the key", f.Mode)
	case group == '0' && root:
		v.fail("spec.files.mode", "postgres", remedy, "mode %s with owner %s: PostgreSQL, which never runs as root, could not read the key", f.Mode, f.Owner)
	}
}
