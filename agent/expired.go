package agent

import (
	"context"

	"github.com/rotunda-pki/rotunda/api"
	"github.com/rotunda-pki/rotunda/pki"
)

// renewExpired asks for a new identity with one that has expired, which no
// server takes in a handshake: it is named in the call, and its key signs the
// request. A server hears that only while an operator has opened a window for
// it, so this is tried at the pace of failed streams and comes to nothing else.
func (s *syncer) renewExpired(ctx context.Context, server string, old *Identity) {
	link, err := dial(server, trust{old.TrustDomain, anchored(old.Anchors), s.now}, nil, s.version)
	if err != nil {
		return
	}
	defer link.close()
	ctx, cancel := context.WithTimeout(ctx, callTimeout)
	defer cancel()
	err = renewer{s}.renewBy(link, old, func(csr []byte) (*api.RenewIdentityResponse, error) {
		proof, err := old.sign(append([]byte(pki.RenewExpired), csr...))
		if err != nil {
			return nil, err
		}
		response, err := link.RenewIdentity(ctx, &api.RenewIdentityRequest{Csr: csr, Expired: old.Chain.Leaf.Raw, Signature: proof.Signature})
		return response, link.explain(err)
	})
	if err != nil {
		s.log.Debug("the expired identity is not renewed", "server", server, "error", err)
		return
	}
	s.log.Warn("the expired identity was renewed, in an emergency window", "server", server)
}
