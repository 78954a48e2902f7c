package agent

import (
	"context"
	"crypto/x509"
	"slices"
	"strings"
	"time"

	"google.golang.org/protobuf/types/known/timestamppb"

	"github.com/rotunda-pki/rotunda/api"
	"github.com/rotunda-pki/rotunda/internal/fault"
	"github.com/rotunda-pki/rotunda/pki"
	"github.com/rotunda-pki/rotunda/rotation"
	"github.com/rotunda-pki/rotunda/target"
)

// An order is something to be done at a target beside rotations: to close
// sessions that outlived the trust in their certificates, to break links and see
// them come back. It is part of what is desired, is carried out once, when the
// placement is steady with the bundle that is desired with it, and what came of
// it is recorded before it is said. An agent that was killed in between does it
// again, which harms nobody.

// order is one, parsed.
type order struct {
	id  string
	do  target.Order
	err error // why it can't be carried out
}

// carried is what came of one.
type carried struct {
	ID      string         `json:"id"`
	Outcome target.Outcome `json:"outcome"`
	Words   string         `json:"words,omitempty"`
	Count   int64          `json:"count,omitempty"`
	At      time.Time      `json:"at"`
}

var orderActs = map[api.Act]target.OrderAct{
	api.Act_ACT_CLOSE_SESSIONS:  target.CloseSessions,
	api.Act_ACT_RECONNECT_LINKS: target.ReconnectLinks,
}

var orderOutcomes = map[target.Outcome]api.Outcome{
	target.Done:       api.Outcome_OUTCOME_DONE,
	target.Partly:     api.Outcome_OUTCOME_PARTLY,
	target.Impossible: api.Outcome_OUTCOME_IMPOSSIBLE,
	target.Failed:     api.Outcome_OUTCOME_FAILED,
}

func (w *wish) parseOrders(d *api.DesiredPlacement) error {
	for _, one := range d.GetOrders() {
		if !idForm.MatchString(one.GetId()) {
			return fault.New(fault.Invalid, "order id %q: must be letters, digits, '-', '_' and '.'", one.GetId())
		}
		o := order{id: one.GetId(), do: target.Order{Act: orderActs[one.GetAct()], Cluster: w.member()}}
		o.do.Issuers, o.err = issuersOf(one)
		if o.err == nil {
			o.do.Serials, o.err = serialsOf(one)
		}
		if o.do.Act == "" {
			o.err = fault.New(fault.Invalid, "this agent does not know act %d", one.GetAct()).WithRemedy("update it")
		}
		w.orders = append(w.orders, o)
	}
	return nil
}

// issuersOf reads the authorities of an order. By names alone no kind of server
// could be asked: each writes them in a way of its own.
func issuersOf(o *api.TargetOrder) ([]*x509.Certificate, error) {
	var issuers []*x509.Certificate
	for _, der := range o.GetIssuerCerts() {
		issuer, err := pki.ParseCertificateDER(der)
		if err != nil {
			return nil, fault.Wrap(fault.Invalid, err, "issuer of order %s", o.GetId())
		}
		issuers = append(issuers, issuer)
	}
	if len(issuers) == 0 && len(o.GetIssuers()) > 0 {
		return nil, fault.New(fault.Invalid, "order %s names %s without a certificate", o.GetId(), strings.Join(o.GetIssuers(), " and "))
	}
	return issuers, nil
}

func serialsOf(o *api.TargetOrder) ([]pki.Serial, error) {
	var serials []pki.Serial
	for _, text := range o.GetSerials() {
		serial, err := pki.ParseSerial(text)
		if err != nil {
			return nil, fault.Wrap(fault.Invalid, err, "order %s", o.GetId())
		}
		serials = append(serials, serial)
	}
	return serials, nil
}

// due is the first order that is to be carried out now, or nil.
func (p *placement) due(w *wished, f rotation.Facts, s rotation.Step) *order {
	v := p.record.Revision(f.Current)
	if s.Action != rotation.Wait || w.err != nil || v == nil || v.Bundle != w.desired.Bundle {
		return nil
	}
	// What takes effect at a restart only is not in use.
	if p.record.Pending != "" || p.contact.wrong() != nil || stateOf(w, f, s) != api.State_STATE_STEADY {
		return nil
	}
	for i, o := range w.orders {
		if p.carried(o.id) == nil {
			return &w.orders[i]
		}
	}
	return nil
}

func (p *placement) carried(id string) *carried {
	i := slices.IndexFunc(p.record.Orders, func(c carried) bool { return c.ID == id })
	if i < 0 {
		return nil
	}
	return &p.record.Orders[i]
}

// obey carries an order out and records what came of it. What the newest desire
// does not name any more is forgotten.
func (p *placement) obey(ctx context.Context, w *wish, o order) error {
	p.e.Log.Info("order", "placement", p.id, "intent", w.intent, "order", o.id, "act", string(o.do.Act))
	result := p.carryOutOrder(ctx, w, o)
	if ctx.Err() != nil {
		return nil // stopped in the middle: it is done again
	}
	p.e.Log.Info("order carried out", "placement", p.id, "order", o.id, "outcome", string(result.Outcome), "count", result.Count, "words", result.Words)
	p.e.reached("order: carried out")
	done := carried{ID: o.id, Outcome: result.Outcome, Words: clip(result.Words), Count: result.Count, At: p.e.Now()}
	err := p.change(func(r *record) {
		r.Orders = slices.DeleteFunc(slices.Clone(r.Orders), func(c carried) bool {
			return !slices.ContainsFunc(w.orders, func(named order) bool { return named.id == c.ID })
		})
		r.Orders = append(r.Orders, done)
	})
	p.e.reached("order: recorded")
	return err
}

func (p *placement) carryOutOrder(ctx context.Context, w *wish, o order) target.Result {
	t, err := p.reach(w)
	if o.err != nil {
		err = o.err
	}
	if err != nil {
		return target.Result{Outcome: target.Impossible, Words: err.Error()}
	}
	limit := w.proof.timeout + patience(t)
	if command, err := p.e.Host.Command(t.RestartCommand); t.RestartCommand != "" && err == nil {
		limit += command.Timeout
	}
	ctx, cancel := context.WithTimeout(ctx, limit)
	defer cancel()
	return w.adapter.CarryOut(ctx, p.e.Host.targetHost(), t, o.do)
}

// orderReports is what came of the orders that are desired.
func (p *placement) orderReports(w *wished) []*api.OrderReport {
	if w.wish == nil {
		return nil
	}
	var reports []*api.OrderReport
	for _, o := range w.orders {
		if c := p.carried(o.id); c != nil {
			reports = append(reports, &api.OrderReport{
				Id: c.ID, Outcome: orderOutcomes[c.Outcome], Words: c.Words, Count: c.Count, At: timestamppb.New(c.At),
			})
		}
	}
	return reports
}
