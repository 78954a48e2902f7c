package agent

import (
	"context"
	"fmt"
	"log/slog"
	"time"

	"github.com/rotunda-pki/rotunda/api"
	"github.com/rotunda-pki/rotunda/audit"
	"github.com/rotunda-pki/rotunda/internal/durable"
	"github.com/rotunda-pki/rotunda/internal/fault"
	"github.com/rotunda-pki/rotunda/pki"
)

// enrolment exchanges a token for an identity. The key is made here and kept
// on disk before it is shown to anybody, under the token's id: an enrolment
// that was interrupted is asked for again with the same key, and the server
// gives the same agent back.
type enrolment struct {
	token   Token
	servers *servers
	ids     *identities
	version string
	now     func() time.Time
	log     *slog.Logger
}

// run tries the servers until one answers. What a server refuses for good ends
// it, once every other server has had its say.
func (e *enrolment) run(ctx context.Context) (*Identity, []byte, error) {
	key, err := e.ids.pendingKey(enrolmentFile, e.token.ID)
	if err != nil {
		return nil, nil, err
	}
	csr, err := pki.NewCSR(key)
	if err != nil {
		return nil, nil, err
	}
	request := &api.EnrolRequest{
		TokenId: e.token.ID, TokenSecret: e.token.Secret, Csr: csr,
		TrustDomain: e.token.TrustDomain.Name(), Facts: facts(e.version, ""), // the targets come with the first report
	}
	refused := map[string]error{}
	for {
		server, rest := e.servers.next(e.now())
		if err := wait(ctx, rest, nil); err != nil {
			return nil, nil, err
		}
		began := e.now()
		response, err := e.ask(ctx, server, request)
		if err == nil {
			identity := &Identity{TrustDomain: e.token.TrustDomain, Token: e.token.ID, LogKey: e.token.LogKey, Obtained: e.now().UTC(), Key: key}
			return identity, response.Checkpoint, e.fill(identity, response)
		}
		if ctx.Err() != nil {
			return nil, nil, ctx.Err()
		}
		e.log.Warn("enrolment", "server", server, "error", err)
		e.servers.failed(server, e.now(), e.now().Sub(began), fault.AfterOf(err), err.Error())
		switch fault.CodeOf(err) {
		case fault.Unavailable, fault.Internal:
			delete(refused, server)
		default:
			refused[server] = err
		}
		if len(refused) == len(e.servers.list) {
			return nil, nil, fmt.Errorf("enrol: %w", err)
		}
	}
}

func (e *enrolment) ask(ctx context.Context, server string, request *api.EnrolRequest) (*api.EnrolResponse, error) {
	link, err := dial(server, trust{e.token.TrustDomain, pinned(e.token.Pin), e.now}, nil, e.version)
	if err != nil {
		return nil, err
	}
	defer link.close()
	ctx, cancel := context.WithTimeout(ctx, callTimeout)
	defer cancel()
	response, err := link.Enrol(ctx, request)
	return response, link.explain(err)
}

// fill checks the answer as if it came from a stranger and makes it the
// identity.
func (e *enrolment) fill(identity *Identity, response *api.EnrolResponse) error {
	var err error
	identity.AgentID = response.AgentId
	if identity.Chain, err = pki.ParseChainDER(response.Chain); err != nil {
		return fmt.Errorf("check the answer to the enrolment: %w", err)
	}
	if identity.Anchors, err = pki.ParseBundleDER(response.Anchors); err != nil {
		return fmt.Errorf("check the answer to the enrolment: %w", err)
	}
	if err := identity.verify(e.now()); err != nil {
		return fmt.Errorf("check the answer to the enrolment: %w", err)
	}
	if response.LogKey != e.token.LogKey {
		return fault.New(fault.Forbidden, "enrolment: the server's audit log has another key than the token says").
			WithRemedy("make a new token; if it happens again, find out who changed the log's key")
	}
	for _, anchor := range identity.Anchors.Anchors() {
		if pki.FingerprintOf(anchor.Raw) == e.token.Pin {
			return nil
		}
	}
	return fault.New(fault.Forbidden, "enrolment: the pinned root is not among the anchors that the server gives").
		WithRemedy("make a new token")
}

// enrol makes the agent somebody, if it is not yet: with the token, or with
// what an earlier run got for it.
func (a *Agent) enrol(ctx context.Context) error {
	current := a.ids.current.Load()
	if current != nil && (a.token == nil || a.token.ID == current.Token) {
		return nil
	}
	if a.token == nil {
		return fault.New(fault.Invalid, "this agent has not enrolled yet").
			WithRemedy("give it a token: rotunda token create")
	}
	identity, checkpoint, err := (&enrolment{
		token: *a.token, servers: newServers(a.config.Servers, a.pace, ""), ids: a.ids,
		version: a.version, now: a.now, log: a.log,
	}).run(ctx)
	if err != nil {
		return err
	}
	if current != nil && current.AgentID != identity.AgentID {
		return fault.New(fault.Conflict, "state directory %s is of agent %s, the token made agent %s", a.config.State, current.AgentID, identity.AgentID).
			WithRemedy("to give this host its identity back use a token of rotunda agent rejoin %s; for a new agent an empty directory", current.AgentID)
	}
	if err := a.witnessFirst(identity, checkpoint); err != nil {
		return err
	}
	if err := a.state.startBoot(a.now()); err != nil {
		return err
	}
	if err := a.ids.replace(identity); err != nil {
		return err
	}
	if err := durable.Remove(a.state.root, refusedFile); err != nil {
		return err
	}
	a.log.Info("enrolled", "agent", identity.AgentID, "trustDomain", identity.TrustDomain.Name(), "until", identity.NotAfter())
	return durable.Remove(a.ids.dir, enrolmentFile)
}

// witnessFirst remembers the log as it stood at enrolment. After a rejoin the
// checkpoint must go with what was seen before; that is shown once a stream is
// open, so here it is only opened.
func (a *Agent) witnessFirst(identity *Identity, checkpoint []byte) error {
	witness, err := openWitness(a.state.root, identity.LogKey, audit.Origin(identity.TrustDomain.Name()))
	if err != nil || len(checkpoint) == 0 || witness.Newest() != nil {
		return err
	}
	return witness.Advance(checkpoint, nil) // the first needs no proof
}
