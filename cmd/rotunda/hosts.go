package main

import (
	"cmp"
	"context"
	"fmt"
	"regexp"
	"slices"
	"strings"

	"github.com/rotunda-pki/rotunda/api"
	"github.com/rotunda-pki/rotunda/internal/fault"
)

// hosts are the names that agents' hosts give themselves, by agent. They are
// for people's eyes and for narrowing a list; nothing is decided by them.
type hosts map[string]string

// knownHosts asks for them. A table is as good without, so that no error
// matters here: what matters fails again at the next call.
func knownHosts(ctx context.Context, s *server) hosts {
	list, err := invoke(ctx, s.ListAgents, &api.ListAgentsRequest{})
	if err != nil {
		return nil
	}
	known := hosts{}
	for _, agent := range list.Agents {
		known[agent.Id] = agent.Facts["hostname"]
	}
	return known
}

// meetHosts learns the hosts for a table, or for a filter that may name one.
func (u *ui) meetHosts(ctx context.Context, s *server, f format, filter *api.ListPlacementsRequest) {
	if f != formatTable && filter.Agent == "" {
		return
	}
	u.hosts = knownHosts(ctx, s)
	filter.Agent = u.hosts.agent(filter.Agent)
}

// renewed asks again when there is an agent among the placements that has
// enrolled since.
func (h hosts) renewed(ctx context.Context, s *server, placements []*api.PlacementStatus) hosts {
	for _, p := range placements {
		if _, known := h[p.Agent]; h != nil && !known {
			if now := knownHosts(ctx, s); now != nil {
				return now
			}
			break
		}
	}
	return h
}

// name is how a table shows an agent: by its host, with the end of its id
// where several hosts call themselves the same.
func (h hosts) name(agent string) string {
	host := h[agent]
	switch {
	case host == "":
		return agent
	case len(h.called(host)) > 1:
		return host + " " + shortSerial(agent)
	}
	return host
}

func (h hosts) called(host string) []string {
	var agents []string
	for agent, name := range h {
		if name == host {
			agents = append(agents, agent)
		}
	}
	return agents
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
	if _, isID := h[text]; isID {
		return text
	}
	if agents := h.called(text); len(agents) == 1 {
		return agents[0]
	}
	return text
}

// theAgent is the id of the one agent that text means. Of a host with several
// agents it has to be said which: an error lists them with their labels.
func (u *ui) theAgent(ctx context.Context, s *server, text string) (string, error) {
	if u.hosts == nil {
		u.hosts = knownHosts(ctx, s)
	}
	id := u.hosts.agent(text)
	several := u.hosts.called(text)
	if id != text || len(several) < 2 {
		return id, nil
	}
	list, err := invoke(ctx, s.ListAgents, &api.ListAgentsRequest{})
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
