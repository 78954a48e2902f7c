package control

import (
	"context"
	"crypto/rand"
	"crypto/sha256"
	"crypto/subtle"
	"crypto/x509"
	"encoding/base64"
	"fmt"
	"strings"
	"time"

	"google.golang.org/protobuf/types/known/timestamppb"

	"github.com/rotunda-pki/rotunda/api"
	"github.com/rotunda-pki/rotunda/fleet"
	"github.com/rotunda-pki/rotunda/internal/fault"
	"github.com/rotunda-pki/rotunda/pki"
	"github.com/rotunda-pki/rotunda/store"
)

const (
	defaultTokenTTL = time.Hour
	longestTokenTTL = 30 * 24 * time.Hour
)

// CreateToken makes a single-use enrolment token. Its secret is shown once;
// the store keeps a digest.
func (c *Control) CreateToken(ctx context.Context, caller Caller, req *api.CreateTokenRequest) (*api.CreateTokenResponse, error) {
	if err := authorize(caller, "token.create"); err != nil {
		return nil, err
	}
	ttl, err := tokenTTL(req)
	if err != nil {
		return nil, err
	}
	if err := fleet.CheckLabels(req.Labels); err != nil {
		return nil, err
	}
	if req.RejoinAgentId != "" && len(req.Labels) > 0 {
		return nil, fault.New(fault.Invalid, "a token that gives agent %s its identity back carries the labels that it has, and no others", printable(req.RejoinAgentId)).
			WithRemedy("change them with: rotunda agent label")
	}
	secret := make([]byte, 24)
	rand.Read(secret)
	token := store.Token{
		ID: newTokenID(), SecretHash: sha256.Sum256(secret), Labels: req.Labels,
		Region: req.Region, Zone: req.Zone, State: fleet.TokenOpen,
		RejoinAgent: req.RejoinAgentId, CreatedBy: caller.String(),
	}
	var text string
	err = c.change(ctx, func(tx *store.Tx) error {
		by, err := c.issuer(ctx, tx)
		if err != nil {
			return err
		}
		text = c.tokenText(by.root, token.ID, secret)
		if token.RejoinAgent != "" {
			if err := fillFromAgent(ctx, tx, &token); err != nil {
				return err
			}
		}
		token.CreatedAt, token.ExpiresAt = tx.Now, tx.Now.Add(ttl)
		if err := tx.InsertToken(ctx, token); err != nil {
			return err
		}
		_, err = done(ctx, tx, caller, "token.create", "Token/"+token.ID, map[string]any{
			"labels": token.Labels, "expiresAt": token.ExpiresAt.Format(time.RFC3339), "rejoinAgent": token.RejoinAgent,
		})
		return err
	})
	if err != nil {
		return nil, err
	}
	return &api.CreateTokenResponse{
		Token: text, Id: token.ID, ExpiresAt: timestamppb.New(token.ExpiresAt),
	}, nil
}

func tokenTTL(req *api.CreateTokenRequest) (time.Duration, error) {
	if req.Ttl == nil {
		return defaultTokenTTL, nil
	}
	ttl := req.Ttl.AsDuration()
	if ttl <= 0 || ttl > longestTokenTTL {
		return 0, fault.New(fault.Invalid, "token TTL %s is outside 0 to %s", ttl, longestTokenTTL)
	}
	return ttl, nil
}

// fillFromAgent makes the token one that gives an agent its identity back: it
// carries the labels that the agent has.
func fillFromAgent(ctx context.Context, tx *store.Tx, token *store.Token) error {
	agent, err := tx.Agent(ctx, token.RejoinAgent)
	if err != nil {
		return err
	}
	token.Labels, token.Region, token.Zone = agent.Labels, agent.Region, agent.Zone
	return nil
}

// newTokenID is short, because people read it: 50 random bits.
func newTokenID() string {
	return strings.ToLower(rand.Text()[:10])
}

// tokenText is what the operator carries to the host: the token, and the pins
// by which the host knows the control plane and its audit log.
func (c *Control) tokenText(root *x509.Certificate, id string, secret []byte) string {
	return fmt.Sprintf("rt1.%s.%s.%s.%s.%s", id, base64.RawURLEncoding.EncodeToString(secret),
		pki.FingerprintOf(root.Raw), base64.RawURLEncoding.EncodeToString([]byte(c.logKey)), c.domain.Name())
}

// tokenShownFor is how long a token is listed after its time is over.
const tokenShownFor = 7 * 24 * time.Hour

// ListTokens shows the tokens that are open, and what became of the others for
// some days.
func (c *Control) ListTokens(ctx context.Context, caller Caller, _ *api.ListTokensRequest) (*api.ListTokensResponse, error) {
	if err := authorize(caller, "list"); err != nil {
		return nil, err
	}
	response := &api.ListTokensResponse{}
	err := c.db.Read(ctx, func(tx *store.Tx) error {
		tokens, err := tx.Tokens(ctx)
		for _, token := range tokens {
			if tx.Now.Sub(token.ExpiresAt) > tokenShownFor {
				continue
			}
			response.Tokens = append(response.Tokens, &api.TokenInfo{
				Id: token.ID, Labels: token.Labels, ExpiresAt: timestamppb.New(token.ExpiresAt),
				UsedAt: stamp(token.UsedAt), AgentId: token.AgentID, State: string(tokenState(token, tx.Now)),
			})
		}
		return err
	})
	return response, err
}

// tokenState is the state that the token is in now: expiry is derived.
func tokenState(token store.Token, now time.Time) fleet.TokenState {
	if token.State == fleet.TokenOpen && !now.Before(token.ExpiresAt) {
		return fleet.TokenExpired
	}
	return token.State
}

// RevokeToken makes an open token useless.
func (c *Control) RevokeToken(ctx context.Context, caller Caller, req *api.RevokeTokenRequest) (*api.RevokeTokenResponse, error) {
	if err := authorize(caller, "token.revoke"); err != nil {
		return nil, err
	}
	response := &api.RevokeTokenResponse{}
	err := c.change(ctx, func(tx *store.Tx) error {
		token, err := tx.Token(ctx, req.Id)
		if err != nil {
			return err
		}
		if err := tokenState(token, tx.Now).To(fleet.TokenRevoked); err != nil {
			return fault.Wrap(fault.Conflict, err, "token %s", token.ID)
		}
		if err := tx.RevokeToken(ctx, token.ID); err != nil {
			return err
		}
		response.AuditId, err = done(ctx, tx, caller, "token.revoke", "Token/"+token.ID, nil)
		return err
	})
	return response, err
}

// openToken returns the token that (id, secret) opens, or the reason why not.
// A token that was used answers to its first user only, so that an enrolment
// whose answer was lost can be repeated.
func openToken(ctx context.Context, tx *store.Tx, id, secret string, spki pki.SPKIHash) (store.Token, error) {
	const unknown = "token %s is unknown or its secret is wrong"
	raw, err := base64.RawURLEncoding.DecodeString(secret)
	if err != nil {
		return store.Token{}, fault.New(fault.Forbidden, unknown, printable(id))
	}
	token, err := tx.Token(ctx, id)
	if fault.CodeOf(err) == fault.NotFound {
		return store.Token{}, fault.New(fault.Forbidden, unknown, printable(id))
	}
	if err != nil {
		return store.Token{}, err
	}
	if hash := sha256.Sum256(raw); subtle.ConstantTimeCompare(hash[:], token.SecretHash[:]) != 1 {
		return store.Token{}, fault.New(fault.Forbidden, unknown, printable(id))
	}
	state := tokenState(token, tx.Now)
	switch {
	case state == fleet.TokenOpen, state == fleet.TokenUsed && token.SPKI == spki:
		return token, nil
	case state == fleet.TokenUsed:
		return store.Token{}, fault.New(fault.Forbidden, "token %s was used at %s by agent %s", id, token.UsedAt.Format(time.RFC3339), token.AgentID).
			WithRemedy("a token is good for one enrolment: rotunda token create")
	}
	since := ""
	if state == fleet.TokenExpired {
		since = " since " + token.ExpiresAt.Format(time.RFC3339)
	}
	return store.Token{}, fault.New(fault.Forbidden, "token %s is %s%s", id, state, since).
		WithRemedy("make a new one: rotunda token create")
}

// printable cuts what a stranger sent down to what may stand in a log.
func printable(text string) string {
	return fmt.Sprintf("%.40q", text)
}

// stamp is nil for the zero time.
func stamp(t time.Time) *timestamppb.Timestamp {
	if t.IsZero() {
		return nil
	}
	return timestamppb.New(t)
}
