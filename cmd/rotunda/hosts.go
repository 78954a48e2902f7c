package main

import (
	"cmp"
	"context"
	"fmt"
	"regexp"
	"slices"
	"strings"

	"github.com/google/uuid"

	"github.com/rotunda-pki/rotunda/api"
	"github.com/rotunda-pki/rotunda/internal/fault"
)

// hosts are the names that agents' hosts give themselves. They are for people's
// eyes and for narrowing a list; nothing is decided by them.
type hosts struct {
	names  map[string]string   // by agent
	agents map[string][]string // by name
}

func (h *hosts) learn(agent, host string) {
	if h.names == nil {
		h.names, h.agents = map[string]string{}, map[string][]string{}
	}
	if _, known := h.names[agent]; known || host == "" {
		return
	}
	h.names[agent] = host
	h.agents[host] = append(h.agents[host], agent)
}

func hostsOf(placements []*api.PlacementStatus) (known hosts) {
	for _, p := range placements {
		known.learn(p.Agent, p.Host)
	}
	return known
}

// knownHosts asks for those of all agents. A table is as good without, so that no
// error matters here: what matters fails again at the next call.
func knownHosts(ctx context.Context, s *server) (known hosts) {
	list, err := listAgents(ctx, s)
	if err != nil {
		return known
	}
	for _, agent := range list.Agents {
		known.learn(agent.Id, agent.Facts["hostname"])
	}
	return known
}

// meetHosts learns the hosts for a table.
func (u *ui) meetHosts(ctx context.Context, s *server, f format) {
	if f == formatTable {
		u.hosts = knownHosts(ctx, s)
	}
}

// findHost has a filter name the agent that its user named by its host.
func (u *ui) findHost(ctx context.Context, s *server, filter *api.ListPlacementsRequest) {
	if filter.Agent != "" && uuid.Validate(filter.Agent) != nil {
		filter.Agent = knownHosts(ctx, s).agent(filter.Agent)
	}
}

// name is how a table shows an agent: by its host, with the end of its id
// where several hosts call themselves the same.
func (h hosts) name(agent string) string {
	host := h.names[agent]
	switch {
	case host == "":
		return agent
	case len(h.agents[host]) > 1:
		return host + " " + shortSerial(agent)
	}
	return host
}

// agentWords is how sentences of the server name an agent. A command line that
// names one has another word before its id, and is left as it is.
var agentWords = regexp.MustCompile(`\bagent [0-9A-Za-z-]+`)

// spoken is a sentence with hosts' names in the place of their agents' ids.
func (h hosts) spoken(sentence string) string {
	return agentWords.ReplaceAllStringFunc(sentence, func(words string) string {
		return "agent " + h.name(strings.TrimPrefix(words, "agent ")) // one that is not known is as it was
	})
}

// agent is the id of the agent that text means: an id, or the name of the
// one host that is called so.
func (h hosts) agent(text string) string {
	if agents := h.agents[text]; len(agents) == 1 {
		return agents[0]
	}
	return text
}

// theAgent is the id of the one agent that text means. Of a host with several
// agents it has to be said which: an error lists them with their labels.
func (u *ui) theAgent(ctx context.Context, s *server, text string) (string, error) {
	if u.hosts.names == nil {
		u.hosts = knownHosts(ctx, s)
	}
	id := u.hosts.agent(text)
	several := u.hosts.agents[text]
	if id != text || len(several) < 2 {
		return id, nil
	}
	list, err := listAgents(ctx, s)
	if err != nil {
		return "", err
	}
	var choices []string
	for _, agent := range list.Agents {
		if agent.Facts["hostname"] == text {
			choices = append(choices, fmt.Sprintf("%s (%s)", agent.Id, cmp.Or(pairs(agent.Labels), "without labels")))
		}
	}
	slices.Sort(choices)
	return "", fault.New(fault.Invalid, "%d agents are on host %s", len(choices), printable(text)).
		WithRemedy("name one of them by its id: %s", strings.Join(listed(choices), "; "))
}
