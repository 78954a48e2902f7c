package control

import (
	"fmt"
	"strings"

	"github.com/rotunda-pki/rotunda/fleet"
	"github.com/rotunda-pki/rotunda/store"
	"github.com/rotunda-pki/rotunda/target"
)

// factTargets is the fact by which an agent names the control paths of its
// agent.yaml: "redis=redis,front=nginx".
const factTargets = "targets"

// namedAgents is how many agents a finding names before it counts the rest.
const namedAgents = 3

// controlLines are the fields of agent.yaml that each kind wants, as on a
// Debian host. Kinds without a control path are not here.
var controlLines = map[fleet.TargetKind][]string{
	fleet.TargetEtcd:      {"address: 127.0.0.1:2381"},
	fleet.TargetHAProxy:   {"address: /run/haproxy/admin.sock", "pidFile: /run/haproxy.pid"},
	fleet.TargetMariaDB:   {"address: /run/mysqld/mysqld.sock", "user: rotunda", "passwordFile: /etc/rotunda/mariadb.password"},
	fleet.TargetMemcached: {"address: 127.0.0.1:11212"},
	fleet.TargetMosquitto: {"pidFile: /run/mosquitto/mosquitto.pid"},
	fleet.TargetNATS:      {"pidFile: /run/nats/nats-server.pid", "address: 127.0.0.1:8222"},
	fleet.TargetNginx:     {"pidFile: /run/nginx.pid", "program: /usr/sbin/nginx"},
	fleet.TargetPostgres:  {"address: /run/postgresql/.s.PGSQL.5432", "user: rotunda", "passwordFile: /etc/rotunda/postgres.password"},
	fleet.TargetRabbitMQ:  {"program: /usr/sbin/rabbitmqctl", "runAs: rabbitmq"},
	fleet.TargetRedis:     {"address: /run/redis/redis-server.sock", "user: rotunda", "passwordFile: /etc/rotunda/redis.password"},
}

// ControlLines are the lines of agent.yaml that give an agent a control path to
// a target, as an example to be fitted to the host. None: the kind has no
// control path.
func ControlLines(kind fleet.TargetKind, name string) []string {
	fields, ok := controlLines[kind]
	if !ok {
		return nil
	}
	lines := []string{"targets:", "  " + name + ":", "    kind: " + string(kind)}
	for _, field := range fields {
		lines = append(lines, "    "+field)
	}
	return lines
}

// controlRemedy is ControlLines on one line, as YAML allows it.
func controlRemedy(kind fleet.TargetKind, name string) string {
	return fmt.Sprintf("add to agent.yaml there, fitted to the host: targets: {%s: {kind: %s, %s}}", name, kind, strings.Join(controlLines[kind], ", "))
}

// reachable reads the control paths that an agent named, by their targets.
func reachable(agent store.Agent) map[string]fleet.TargetKind {
	kinds := map[string]fleet.TargetKind{}
	for pair := range strings.SplitSeq(agent.Facts[factTargets], ",") {
		if name, kind, ok := strings.Cut(pair, "="); ok {
			kinds[name] = fleet.TargetKind(kind)
		}
	}
	return kinds
}

// reviewControl finds the agents of an intent that have no control path to the
// target, or one to a server of another kind.
func (t targetReview) reviewControl() []fleet.Finding {
	if t.Control == "" {
		return nil
	}
	var lacking, differing []seat
	for _, s := range t.seats {
		switch {
		case s.kind != "" && s.kind != t.Kind:
			differing = append(differing, s)
		case s.kind == "" && t.Leaf == target.AtReload && t.intent.Target.ReloadCommand == "":
			lacking = append(lacking, s)
		}
	}
	var findings []fleet.Finding
	if len(differing) > 0 {
		first := differing[0]
		findings = append(findings, t.finding(fleet.Error, "spec.target.kind", "control-path",
			fmt.Sprintf("agent.yaml says that target %s is of kind %.20q, and the intent that it is of kind %s, on %s",
				first.target, first.kind, t.Kind, agentsOf(differing)),
			"correct one of the two: the intent's target.kind, or targets."+first.target+".kind in agent.yaml"))
	}
	if len(lacking) > 0 {
		findings = append(findings, t.lacksControl(lacking))
	}
	return findings
}

func (t targetReview) lacksControl(lacking []seat) fleet.Finding {
	instead := "what is renewed waits for its next restart, and the proof fails"
	if command := t.intent.Target.RestartCommand; command != "" {
		instead = "each renewal restarts it by " + command
	}
	name := lacking[0].target
	return t.finding(fleet.Warning, "spec.target.kind", "control-path",
		fmt.Sprintf("agent.yaml names no control path to target %s, so that %s can't be told to reload, on %s: %s", name, t.Title, agentsOf(lacking), instead),
		controlRemedy(t.Kind, name)+"; or give the intent a reloadCommand")
}

// agentsOf names the first few agents and counts the rest.
func agentsOf(seats []seat) string {
	var names []string
	last := "" // they are sorted, and one agent may have several instances
	for _, s := range seats {
		if s.agent == last {
			continue
		}
		if last = s.agent; s.host != "" {
			names = append(names, fmt.Sprintf("%.40s (%s)", s.host, s.agent))
		} else {
			names = append(names, s.agent)
		}
	}
	word := "agent "
	if len(names) > 1 {
		word = "agents "
	}
	if more := len(names) - namedAgents; more > 0 {
		names = append(names[:namedAgents], fmt.Sprintf("and %d more", more))
	}
	return word + strings.Join(names, ", ")
}

// adapterOf is the row of a kind that the documents have passed with.
func adapterOf(kind fleet.TargetKind) (target.Capabilities, bool) {
	adapter, err := target.Lookup(kind)
	return adapter.Capabilities, err == nil
}
