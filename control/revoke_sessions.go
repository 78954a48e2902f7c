package control

import (
	"context"
	"slices"
	"time"

	"github.com/rotunda-pki/rotunda/api"
	"github.com/rotunda-pki/rotunda/fleet"
	"github.com/rotunda-pki/rotunda/store"
)

// A server looks at a client's certificate when a connection is opened and never
// again. So once a client's certificate is revoked and on its list, those who
// take it are told to close what was opened with it.

// superseded is a reason that says nothing against who had the certificate: his
// sessions stay.
const superseded = "superseded"

// closing is an order about certificates of one service's clients.
type closing struct {
	revocation string
	client     fleet.Name
	serials    []string
	issuers    [][]byte
}

func closingID(revocation string) string { return "revoke." + revocation + ".sessions" }

// clientOf is the service that shows a leaf as a client.
func (w *world) clientOf(record store.Certificate) (fleet.Name, bool) {
	intent, ok := w.set.Intent(fleet.Name(record.Intent))
	if !ok || record.Kind != store.KindLeaf {
		return "", false
	}
	profile, ok := w.set.Profile(intent.Profile)
	return intent.Service, ok && slices.Contains(profile.Usages, fleet.ClientAuth)
}

// desireClosings orders a server to close what its clients opened with what was
// revoked.
func desireClosings(common *common, placement store.Placement, expanded fleet.Expanded, desired *api.DesiredPlacement, now time.Time) error {
	for _, one := range common.closings {
		if !common.world.takes(expanded, one.client) {
			continue
		}
		report, err := storedReport(placement)
		if err != nil {
			return err
		}
		desired.Orders = append(desired.Orders, &api.TargetOrder{
			Id: orderID(report, closingID(one.revocation), now), Act: api.Act_ACT_CLOSE_SESSIONS, IssuerCerts: one.issuers, Serials: one.serials,
		})
	}
	return nil
}

// takes says whether a server asks its clients for certificates and the service
// is one of them.
func (w *world) takes(server fleet.Expanded, client fleet.Name) bool {
	service, ok := w.set.Service(server.Service)
	return ok && server.Names != nil && server.Target.ClientAuth != "" && server.Target.ClientAuth != "none" && slices.Contains(service.Clients, client)
}

// closedSessions is what became of a revocation's orders, as hosts say.
func (c *Control) closedSessions(ctx context.Context, tx *store.Tx, id string) ([]*api.ClosedSessions, error) {
	common, err := c.commonAt(ctx, tx)
	if err != nil {
		return nil, err
	}
	placements, err := tx.Placements(ctx)
	if err != nil {
		return nil, err
	}
	var all []*api.ClosedSessions
	for _, placement := range placements {
		report, err := storedReport(placement)
		if err != nil {
			return nil, err
		}
		i := slices.IndexFunc(report.Orders, func(o *api.OrderReport) bool { return o.Id == orderID(report, closingID(id), tx.Now) })
		intent, known := common.world.set.Intent(fleet.Name(placement.Intent))
		if !known || i < 0 && !c.isOrdered(ctx, tx, common, placement, id) {
			continue
		}
		one := &api.ClosedSessions{Service: string(intent.Service), Intent: placement.Intent, Agent: placement.AgentID, Placement: placement.ID}
		if i >= 0 {
			done := report.Orders[i]
			one.Outcome, one.Words, one.Count, one.At = done.Outcome, done.Words, done.Count, done.At
		}
		all = append(all, one)
	}
	return all, nil
}

// isOrdered says whether a placement is ordered to close sessions of the
// revocation, and has not said what came of it.
func (c *Control) isOrdered(ctx context.Context, tx *store.Tx, common *common, placement store.Placement, id string) bool {
	agent, err := tx.Agent(ctx, placement.AgentID)
	if err != nil || placement.Orphan {
		return false
	}
	expanded, err := c.expand(common.world, agent, keyOf(placement), "")
	return err == nil && slices.ContainsFunc(common.closings, func(one closing) bool { return one.revocation == id && common.world.takes(expanded, one.client) })
}
