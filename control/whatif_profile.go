package control

import (
	"context"
	"encoding/json"
	"errors"
	"slices"
	"time"

	"github.com/rotunda-pki/rotunda/api"
	"github.com/rotunda-pki/rotunda/fleet"
	"github.com/rotunda-pki/rotunda/internal/fault"
	"github.com/rotunda-pki/rotunda/probe"
	"github.com/rotunda-pki/rotunda/store"
	"github.com/rotunda-pki/rotunda/target"
	"github.com/rotunda-pki/rotunda/whatif"
)

// whatIfProfile says what would happen if a profile's document were applied.
func (c *Control) whatIfProfile(ctx context.Context, proposal whatif.Proposal, content []byte) (*api.WhatIfResponse, error) {
	document, err := oneProfile(proposal.Authority, content)
	if err != nil {
		return nil, err
	}
	var response *api.WhatIfResponse
	err = c.db.Read(ctx, func(tx *store.Tx) error {
		r, err := c.supposeProfile(ctx, tx, proposal, document, content)
		if err == nil {
			response = wireReprofiled(r, r.Foretell(tx.Now), tx.Now)
		}
		return err
	})
	return response, err
}

// oneProfile reads a file that holds one Profile document and nothing else.
func oneProfile(path string, content []byte) (fleet.Document, error) {
	documents, findings := fleet.ParseFiles([]fleet.File{{Path: path, Content: content}})
	var errs []error
	for _, f := range findings {
		if f.Severity == fleet.Error {
			errs = append(errs, fault.New(fault.Invalid, "%s:%d: %s", f.Position.File, f.Position.Line, f.Message).WithRemedy("%s", f.Remedy))
		}
	}
	if len(errs) > 0 {
		return fleet.Document{}, errors.Join(errs...)
	}
	if len(documents) != 1 || documents[0].Kind != fleet.KindProfile {
		return fleet.Document{}, fault.New(fault.Invalid, "%s holds %d documents: one Profile is foretold at a time", printable(path), len(documents)).
			WithRemedy("name a file with one Profile; rotunda plan -f shows what others would do")
	}
	return documents[0], nil
}

// coveredRules are findings that are told by placement here.
var coveredRules = []string{"key-type", "crl", "needs-restart", "cluster"}

// supposeProfile reads the facts of a profile as a document would have it.
func (c *Control) supposeProfile(ctx context.Context, tx *store.Tx, proposal whatif.Proposal, document fleet.Document, content []byte) (whatif.Reprofiled, error) {
	r := whatif.Reprofiled{Proposal: proposal, Name: document.Name, After: document.Spec.(*fleet.Profile), Verifies: map[fleet.Name][]fleet.Algorithm{}, Windows: map[fleet.Name]*fleet.Window{}}
	review, err := c.reviewFiles(ctx, tx, []*api.SourceFile{{Path: proposal.Authority, Content: content}}, false)
	if err != nil {
		return r, err
	}
	r.Before, _ = review.before.set.Profile(r.Name)
	for _, f := range review.findings {
		switch {
		case f.Severity == fleet.Error:
			r.Stops = append(r.Stops, f.Document+": "+f.Message+": "+f.Remedy)
		case !slices.Contains(coveredRules, f.Rule):
			r.Doubts = append(r.Doubts, whatif.Obstacle{Phase: whatif.Apply, Who: f.Document, Reason: f.Message, Remedy: f.Remedy})
		}
	}
	if r.Facts, err = c.graphFacts(ctx, tx); err != nil {
		return r, err
	}
	by, err := c.issuer(ctx, tx)
	if err != nil {
		return r, err
	}
	record, err := tx.Authority(ctx, by.ID)
	if err != nil {
		return r, err
	}
	r.Issuer, r.IssuerEnds = record.Name, by.Certificate.NotAfter
	review.before.verifies(r.Verifies)
	for _, document := range review.before.set.OfKind(fleet.KindWindow) {
		r.Windows[document.Name] = document.Spec.(*fleet.Window)
	}
	return r, c.readSeats(ctx, tx, review, &r)
}

// verifies notes which key algorithms each service meets as a client, and as a
// server that looks at its clients' certificates.
func (w *world) verifies(met map[fleet.Name][]fleet.Algorithm) {
	shown := map[fleet.Name][]fleet.Algorithm{}
	for _, name := range w.intents {
		in, _ := w.set.Intent(name)
		if profile, ok := w.set.Profile(in.Profile); ok && in.Identity != nil {
			shown[in.Service] = append(shown[in.Service], profile.Algorithm)
		}
	}
	for _, document := range w.set.OfKind(fleet.KindService) {
		service, _ := w.set.Service(document.Name)
		for _, client := range service.Clients {
			met[client] = append(met[client], shown[document.Name]...)
			met[document.Name] = append(met[document.Name], shown[client]...)
		}
	}
}

// readSeats reads the placements that would have the profile, and what their
// processes can do.
func (c *Control) readSeats(ctx context.Context, tx *store.Tx, review *review, r *whatif.Reprofiled) error {
	s := &supposing{Control: c, tx: tx, view: &trustView{}, told: whatif.Supposed{Facts: r.Facts, Means: map[string]whatif.Means{}}}
	if err := s.means(ctx); err != nil {
		return err
	}
	placements, err := tx.Placements(ctx)
	if err != nil {
		return err
	}
	for _, placement := range placements {
		agent, err := tx.Agent(ctx, placement.AgentID)
		if err != nil {
			return err
		}
		at := keyOf(placement)
		used := fleet.Name(review.overrides[at].Profile)
		now, err := c.expand(review.after, agent, at, used)
		if placement.Orphan || err != nil || now.Profile == nil || now.ProfileName != r.Name {
			continue
		}
		seat := whatif.Reseat{
			Means: s.told.Means[placeName(placement)], Name: placeName(placement), Intent: at.Intent,
			Away: !c.connected(placement.AgentID), Formats: now.Files.Formats,
		}
		if can, known := adapterOf(now.Target.Kind); known {
			seat.KeyAtRestart, seat.NoCRL = can.KeyType == target.AtRestart, can.CRL == target.Never
		}
		if was, err := c.expand(review.before, agent, at, used); err == nil && was.Profile != nil {
			seat.Rotates = needsNewLeaf(was, now)
			if seat.DueBy, err = c.dueBy(ctx, tx, placement, was.Profile); err != nil {
				return err
			}
		}
		if seat.Protocol, seat.Group, err = newestHandshake(ctx, tx, placement); err != nil {
			return err
		}
		r.Seats = append(r.Seats, seat)
	}
	return nil
}

// dueBy is when a placement's next renewal is due at the latest; zero: it has no
// certificate yet.
func (c *Control) dueBy(ctx context.Context, tx *store.Tx, placement store.Placement, profile *fleet.Profile) (time.Time, error) {
	leaf, err := tx.NewestPlacementCertificate(ctx, placement.ID)
	if fault.CodeOf(err) == fault.NotFound {
		return time.Time{}, nil
	}
	if err != nil {
		return time.Time{}, err
	}
	_, before, err := c.windowOf(ctx, tx, placement, profile, leaf.Issued())
	return before, err
}

// newestHandshake is the protocol and the group that a placement's process was
// seen with last; empty: it was not.
func newestHandshake(ctx context.Context, tx *store.Tx, placement store.Placement) (protocol, group string, err error) {
	evidence, err := tx.EvidenceOf(ctx, placement.ID)
	var at time.Time
	for _, one := range evidence {
		var seen probe.Observation
		if one.Kind == handshakeKind && one.At.After(at) && json.Unmarshal(one.Statement, &seen) == nil && seen.Outcome == probe.Served {
			at, protocol, group = one.At, seen.Protocol, seen.Group
		}
	}
	return protocol, group, err
}
