package control

import (
	"context"
	"fmt"
	"maps"
	"strings"
	"time"

	"google.golang.org/protobuf/proto"

	"github.com/rotunda-pki/rotunda/api"
	"github.com/rotunda-pki/rotunda/fleet"
	"github.com/rotunda-pki/rotunda/internal/fault"
	"github.com/rotunda-pki/rotunda/store"
)

// ListAgents shows the agents, connected or not; a page of them where the request
// has a limit.
func (c *Control) ListAgents(ctx context.Context, caller Caller, req *api.ListAgentsRequest) (*api.ListAgentsResponse, error) {
	if err := authorize(caller, "list"); err != nil {
		return nil, err
	}
	response := &api.ListAgentsResponse{}
	err := c.db.Read(ctx, func(tx *store.Tx) error {
		look := func(agent store.Agent) error {
			info, err := c.agentInfo(ctx, tx, agent)
			response.Agents = append(response.Agents, info)
			return err
		}
		switch limit := min(int(req.Limit), mostListed); {
		case req.Id != "":
			agent, err := tx.Agent(ctx, req.Id)
			if err != nil {
				return ignoreMissing(err)
			}
			return look(agent)
		case limit > 0:
			page, err := tx.AgentsAfter(ctx, req.After, limit)
			if err != nil {
				return err
			}
			if len(page) == limit {
				response.Next = page[limit-1].ID
			}
			for _, agent := range page {
				if err := look(agent); err != nil {
					return err
				}
			}
			return nil
		}
		return eachAgent(ctx, tx, look)
	})
	return response, err
}

func (c *Control) agentInfo(ctx context.Context, tx *store.Tx, agent store.Agent) (*api.AgentInfo, error) {
	info := &api.AgentInfo{
		Id: agent.ID, Labels: agent.Labels, Facts: agent.Facts, State: string(agent.State), Boot: agent.Boot,
		SeenAt: stamp(agent.SeenAt), EnrolledAt: stamp(agent.EnrolledAt), Region: agent.Region, Zone: agent.Zone,
	}
	if here, connected := c.presence.of(agent.ID); connected {
		info.Connected, info.Alarm, info.SeenAt = true, here.alarm, stamp(c.now())
		info.ClockOffset = here.offset.Round(time.Millisecond).String()
	} else if c.connected(agent.ID) {
		info.Connected, info.SeenAt = true, stamp(c.now())
	}
	if alarm, cloned := c.clones.Load(agent.ID); cloned {
		info.Alarm = strings.TrimSuffix(alarm.(string)+"; "+info.Alarm, "; ")
	}
	identities, err := tx.AgentIdentities(ctx, agent.ID)
	for _, identity := range identities {
		if identity.RevokedAt.IsZero() && (info.IdentityNotAfter == nil || identity.NotAfter.After(info.IdentityNotAfter.AsTime())) {
			info.IdentityNotAfter = stamp(identity.NotAfter)
		}
	}
	return info, err
}

// LabelAgent changes what is attested of an agent. Its placements follow in
// the same transaction.
func (c *Control) LabelAgent(ctx context.Context, caller Caller, req *api.LabelAgentRequest) (*api.LabelAgentResponse, error) {
	if err := authorize(caller, "agent.label"); err != nil {
		return nil, err
	}
	response := &api.LabelAgentResponse{}
	err := c.change(ctx, func(tx *store.Tx) error {
		agent, err := tx.Agent(ctx, req.AgentId)
		if err != nil {
			return err
		}
		labels := maps.Clone(agent.Labels)
		if labels == nil {
			labels = map[string]string{}
		}
		maps.Copy(labels, req.Set)
		for _, key := range req.Remove {
			delete(labels, key)
		}
		if err := fleet.CheckLabels(labels); err != nil {
			return err
		}
		if err := tx.SetAgentLabels(ctx, agent.ID, labels); err != nil {
			return err
		}
		agent.Labels = labels
		if err := c.placeAgent(ctx, tx, agent.ID); err != nil {
			return err
		}
		if response.Agent, err = c.agentInfo(ctx, tx, agent); err != nil {
			return err
		}
		response.AuditId, err = done(ctx, tx, caller, "agent.label", "Agent/"+agent.ID, map[string]any{"labels": labels})
		return err
	})
	if err != nil {
		return nil, err
	}
	c.watchers.wakeEverybody()
	return response, nil
}

// RetireAgent ends an agent: its identity is revoked and its placements become
// orphans. What stands on its host is left alone.
func (c *Control) RetireAgent(ctx context.Context, caller Caller, req *api.RetireAgentRequest) (*api.RetireAgentResponse, error) {
	if err := authorize(caller, "agent.retire"); err != nil {
		return nil, err
	}
	response := &api.RetireAgentResponse{}
	body := func(tx *store.Tx) error {
		proto.Reset(response)
		agent, err := tx.Agent(ctx, req.AgentId)
		if err != nil {
			return err
		}
		if err := agent.State.To(fleet.AgentRetired); err != nil {
			return fault.Wrap(fault.Conflict, err, "agent %s", agent.ID)
		}
		placements, err := tx.AgentPlacements(ctx, agent.ID)
		if err != nil {
			return err
		}
		for _, placement := range placements {
			response.Effects = append(response.Effects,
				fmt.Sprintf("placement %s of intent %s becomes an orphan: files stay, renewal stops", placement.ID, placement.Intent))
		}
		held, err := tx.AgentSlots(ctx, agent.ID)
		if err != nil {
			return err
		}
		for _, slot := range held {
			response.Effects = append(response.Effects, fmt.Sprintf("its slot %s of cluster %s is released", slot.ID, slot.Cluster))
		}
		response.Effects = append(response.Effects, "the agent's identity is revoked")
		if req.DryRun {
			return nil
		}
		if err := c.retire(ctx, tx, caller, agent); err != nil {
			return err
		}
		response.AuditId, err = done(ctx, tx, caller, "agent.retire", "Agent/"+agent.ID, map[string]any{"reason": req.Reason})
		return err
	}
	if req.DryRun {
		return response, c.db.Read(ctx, body)
	}
	if err := c.change(ctx, body); err != nil {
		return nil, err
	}
	c.identities.forget()
	if _, err := c.grantAsking(ctx); err != nil { // who waited for what it held goes now
		c.log.Error("grant slots", "error", err)
	}
	c.watchers.wakeEverybody()
	return response, nil
}

func (c *Control) retire(ctx context.Context, tx *store.Tx, caller Caller, agent store.Agent) error {
	if err := tx.SetAgentState(ctx, agent.ID, agent.State, fleet.AgentRetired); err != nil {
		return err
	}
	if err := revokeIdentities(ctx, tx, agent.ID, "cessationOfOperation"); err != nil {
		return err
	}
	if err := c.placeAgent(ctx, tx, agent.ID); err != nil {
		return err
	}
	return c.releaseSlots(ctx, tx, caller, agent.ID)
}

// revokeIdentities revokes what an agent identifies itself by. reason is one
// of RFC 5280's CRLReason names.
func revokeIdentities(ctx context.Context, tx *store.Tx, agentID, reason string) error {
	identities, err := tx.AgentIdentities(ctx, agentID)
	if err != nil {
		return err
	}
	for _, identity := range identities {
		if identity.RevokedAt.IsZero() && tx.Now.Before(identity.NotAfter) {
			if err := tx.RevokeCertificate(ctx, identity.Serial, reason); err != nil {
				return err
			}
		}
	}
	return nil
}
