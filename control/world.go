package control

import (
	"context"
	"slices"

	"github.com/rotunda-pki/rotunda/api"
	"github.com/rotunda-pki/rotunda/fleet"
	"github.com/rotunda-pki/rotunda/internal/fault"
	"github.com/rotunda-pki/rotunda/policy"
	"github.com/rotunda-pki/rotunda/store"
)

// world is all that operators declared, compiled. It is immutable; a change of
// documents makes another one.
type world struct {
	state   uint64 // of the documents in the store
	set     fleet.Set
	engine  *policy.Engine
	intents []fleet.Name // sorted
	servers []*api.RegionServer
}

// worldAt returns the world as tx sees it. It is compiled once for each state
// of the documents. What a Write sees is not kept: a neighbour's documents may
// be rolled back yet, and others take the number of their state.
func (c *Control) worldAt(ctx context.Context, tx *store.Tx) (*world, error) {
	state, err := tx.DocumentState(ctx)
	if err != nil {
		return nil, err
	}
	if w := c.world.Load(); w != nil && w.state == state {
		return w, nil
	}
	set, err := storedSet(ctx, tx)
	if err != nil {
		return nil, err
	}
	w, findings := compileWorld(state, set)
	if fleet.HasErrors(findings) {
		return nil, fault.New(fault.Internal, "stored documents do not compile: %s", findings[0].Message)
	}
	if tx.Committed() {
		c.keepWorld(w)
	}
	return w, nil
}

// keepWorld puts a world in the place of an older one.
func (c *Control) keepWorld(w *world) {
	for {
		kept := c.world.Load()
		if (kept != nil && kept.state >= w.state) || c.world.CompareAndSwap(kept, w) {
			return
		}
	}
}

func storedSet(ctx context.Context, tx *store.Tx) (fleet.Set, error) {
	records, err := tx.Documents(ctx, "", "")
	if err != nil {
		return nil, err
	}
	set := fleet.NewSet()
	for _, record := range records {
		document, err := fleet.ParseJSON(record.JSON)
		if err != nil {
			return nil, fault.Wrap(fault.Internal, err, "stored document %s/%s", record.Kind, record.Name)
		}
		set.Put(document)
	}
	return set, nil
}

func compileWorld(state uint64, set fleet.Set) (*world, []fleet.Finding) {
	w := &world{state: state, set: set, servers: serversOf(set)}
	for _, document := range set.OfKind(fleet.KindIntent) {
		w.intents = append(w.intents, document.Name)
	}
	var findings []fleet.Finding
	w.engine, findings = policy.Compile(set.OfKind(fleet.KindPolicy))
	return w, findings
}

// peers names the bundles of everyone who must accept a certificate of
// this service: as a server its declared clients, as a client the services that
// declare it as theirs, and within a service its own members when a leaf does
// both.
func (w *world) peers(of fleet.Name, profile *fleet.Profile) []fleet.Name {
	server := slices.Contains(profile.Usages, fleet.ServerAuth)
	client := slices.Contains(profile.Usages, fleet.ClientAuth)
	relying := map[fleet.Name]bool{}
	own, _ := w.set.Service(of)
	if server && own != nil {
		for _, name := range own.Clients {
			relying[name] = true
		}
	}
	for _, document := range w.set.OfKind(fleet.KindService) {
		service, _ := w.set.Service(document.Name)
		if client && slices.Contains(service.Clients, of) {
			relying[document.Name] = true
		}
	}
	if server && client {
		relying[of] = true
	}
	var bundles []fleet.Name
	for _, name := range w.intents {
		other, _ := w.set.Intent(name)
		if relying[other.Service] && !slices.Contains(bundles, other.Bundle) {
			bundles = append(bundles, other.Bundle)
		}
	}
	slices.Sort(bundles)
	return bundles
}
