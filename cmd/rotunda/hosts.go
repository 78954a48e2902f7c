package main

import (
	"context"

	"github.com/rotunda-pki/rotunda/api"
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
