package fleetload

import (
	"context"
	"errors"
	"sync"

	"connectrpc.com/connect"

	"github.com/rotunda-pki/rotunda/api"
	"github.com/rotunda-pki/rotunda/fleet"
)

// Cleaned counts what Clean took away.
type Cleaned struct {
	Documents int `json:"documents"`
	Tokens    int `json:"tokens"`
	Agents    int `json:"agents"`
}

// Clean takes away what the run made: its documents, its tokens that nobody
// used, its agents, which are retired. Their records, their certificates, which
// live some hours, and the audit entries stay, as of any agent. It may be asked
// again.
func (r *Run) Clean(ctx context.Context, progress func(retired, of int)) (Cleaned, error) {
	var cleaned Cleaned
	err := errors.Join(r.cleanDocuments(ctx, &cleaned), r.cleanTokens(ctx, &cleaned), r.cleanAgents(ctx, &cleaned, progress))
	return cleaned, err
}

func (r *Run) cleanDocuments(ctx context.Context, cleaned *Cleaned) error {
	for _, kind := range []fleet.Kind{fleet.KindIntent, fleet.KindPolicy, fleet.KindProfile, fleet.KindService} {
		key := &api.ListDocumentsRequest{Kind: string(kind), Name: r.Document()}
		there, err := r.Operator.ListDocuments(ctx, connect.NewRequest(key))
		if err != nil {
			return err
		}
		if len(there.Msg.Documents) == 0 {
			continue
		}
		if _, err := r.Operator.DeleteDocument(ctx, connect.NewRequest(&api.DeleteDocumentRequest{Kind: key.Kind, Name: key.Name})); err != nil {
			return err
		}
		cleaned.Documents++
	}
	return nil
}

func (r *Run) cleanTokens(ctx context.Context, cleaned *Cleaned) error {
	tokens, err := r.Operator.ListTokens(ctx, connect.NewRequest(&api.ListTokensRequest{}))
	if err != nil {
		return err
	}
	for _, token := range tokens.Msg.Tokens {
		if token.Labels[Label] != r.Name || token.State != "open" {
			continue
		}
		if _, err := r.Operator.RevokeToken(ctx, connect.NewRequest(&api.RevokeTokenRequest{Id: token.Id})); err != nil {
			return err
		}
		cleaned.Tokens++
	}
	return nil
}

func (r *Run) cleanAgents(ctx context.Context, cleaned *Cleaned, progress func(retired, of int)) error {
	_, simulated, err := r.Others(ctx)
	if err != nil {
		return err
	}
	var mine []*api.AgentInfo
	for _, agent := range simulated {
		if agent.Labels[Label] == r.Name {
			mine = append(mine, agent)
		}
	}
	var mu sync.Mutex
	return Each(ctx, len(mine), 16, func(ctx context.Context, i int) error {
		_, err := r.Operator.RetireAgent(ctx, connect.NewRequest(&api.RetireAgentRequest{AgentId: mine[i].Id, Reason: "the run " + r.Name + " of rotunda bench is over"}))
		if err != nil {
			return err
		}
		mu.Lock()
		defer mu.Unlock()
		cleaned.Agents++
		progress(cleaned.Agents, len(mine))
		return nil
	})
}
