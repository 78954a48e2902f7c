package control

import (
	"context"
	"encoding/binary"
	"errors"
	"slices"
	"time"

	"github.com/rotunda-pki/rotunda/api"
	"github.com/rotunda-pki/rotunda/fleet"
	"github.com/rotunda-pki/rotunda/internal/fault"
	"github.com/rotunda-pki/rotunda/ocsp"
	"github.com/rotunda-pki/rotunda/pki"
	"github.com/rotunda-pki/rotunda/store"
	"github.com/rotunda-pki/rotunda/target"
)

// A staple goes to a host as a file, and each new one makes a process reload. So
// it is good for days, is made in advance, and is kept in the store as it was
// signed: all servers, and those that start anew, want the same of a host.

// stapleLife is how long a staple is good for. It is made anew when between two
// and three fifths of that are over: each certificate has its own moment in
// between, so that what was issued together is not reloaded together.
const stapleLife = 4 * 24 * time.Hour

// stapleSlice is how many staples one transaction puts in place: what waits to
// be issued must not wait for a thousand of them.
const stapleSlice = 32

// TendStaples makes the staples that are due and tells their agents; it returns
// how many. Several servers may do so at once.
func (c *Control) TendStaples(ctx context.Context) (int, error) {
	due, err := c.dueStaples(ctx)
	if err != nil {
		return 0, err
	}
	made := 0
	for slice := range slices.Chunk(due, stapleSlice) {
		agents, one := c.makeStaples(ctx, slice)
		made += len(agents)
		err = errors.Join(err, one) // the others go on
		if len(agents) > 0 {
			c.watchers.wakeAgents(agents...)
		}
	}
	return made, errors.Join(err, c.forgetStaples(ctx))
}

// dueStaples are the newest certificates at placements that want a staple and
// have none, or an old one. What was revoked gets none.
func (c *Control) dueStaples(ctx context.Context) (due []store.DueStaple, err error) {
	err = c.db.Read(ctx, func(tx *store.Tx) error {
		w, err := c.worldAt(ctx, tx)
		if err != nil {
			return err
		}
		overrides, err := tx.StandingOverrides(ctx)
		if err != nil {
			return err
		}
		used := map[string]fleet.Name{}
		for _, one := range overrides {
			used[one.PlacementID] = fleet.Name(one.Profile)
		}
		for _, intent := range w.stapled(len(overrides) > 0) {
			of, err := tx.DueStaples(ctx, string(intent))
			if err != nil {
				return err
			}
			for _, one := range of {
				if w.wantsStaple(intent, used[one.PlacementID]) {
					due = append(due, one)
				}
			}
		}
		return nil
	})
	return due, err
}

// stapled are the intents of which some placement may want a staple: where
// rollouts have other profiles used, of any whose process takes one.
func (w *world) stapled(overridden bool) []fleet.Name {
	any := false
	for _, document := range w.set.OfKind(fleet.KindProfile) {
		profile, _ := w.set.Profile(document.Name)
		any = any || profile.Revocation.Staple
	}
	var intents []fleet.Name
	for _, name := range w.intents {
		in, _ := w.set.Intent(name)
		if any && takesStaple(in.Target.Kind) && (overridden || w.wantsStaple(name, "")) {
			intents = append(intents, name)
		}
	}
	return intents
}

// wantsStaple says whether a placement of the intent wants a staple, under
// another profile than the intent's where one is used.
func (w *world) wantsStaple(intent, used fleet.Name) bool {
	in, _ := w.set.Intent(intent)
	if used == "" {
		used = in.Profile
	}
	profile, known := w.set.Profile(used)
	return known && profile.Revocation.Staple
}

func takesStaple(kind fleet.TargetKind) bool {
	adapter, err := target.Lookup(kind)
	return err == nil && adapter.Staple != target.Never
}

// makeStaples signs outside of a transaction, so that nobody waits for it, and
// puts in place what is still wanted. It returns the agents whose staples they
// are. Where another server was first there is nothing left to do.
func (c *Control) makeStaples(ctx context.Context, due []store.DueStaple) (agents []string, err error) {
	var staples []store.Staple
	var of []store.DueStaple
	var failed error
	for _, one := range due {
		made, err := c.signStaple(ctx, one)
		switch {
		case fault.CodeOf(err) == fault.NotFound && err != nil:
			continue // nobody here can answer for its authority
		case err != nil:
			failed = err
			continue
		}
		staples, of = append(staples, made), append(of, one)
	}
	if len(staples) == 0 {
		return nil, failed
	}
	err = c.change(ctx, func(tx *store.Tx) error {
		agents = nil
		for i, made := range staples {
			put, err := putStaple(ctx, tx, made)
			if err != nil {
				return err
			}
			if put {
				agents = append(agents, of[i].AgentID)
			}
		}
		return nil
	})
	if err != nil {
		agents = nil
	}
	if fault.CodeOf(err) == fault.Conflict {
		err = nil
	}
	return agents, errors.Join(err, failed)
}

func (c *Control) signStaple(ctx context.Context, due store.DueStaple) (store.Staple, error) {
	epoch, err := c.answers.pulse.look(ctx, c)
	if err != nil {
		return store.Staple{}, err
	}
	by, err := c.responder(ctx, epoch, due.AuthorityID)
	if err != nil {
		return store.Staple{}, err
	}
	id, err := by.issuer.CertID(due.Serial)
	if err != nil {
		return store.Staple{}, err
	}
	dated, err := c.datedAnswer(by, stapleLife)
	if err != nil {
		return store.Staple{}, err
	}
	der, err := by.Sign(dated.this, []ocsp.Single{{ID: id, Status: ocsp.Good, This: dated.this, Next: dated.next}}, nil)
	return store.Staple{
		Digest: pki.FingerprintOf(der), Serial: due.Serial, ThisUpdate: dated.this, NextUpdate: dated.next,
		RefreshAt: refreshStapleAt(due.Serial, dated.this, dated.next), DER: der,
	}, err
}

// refreshStapleAt is the certificate's own moment within the middle fifth.
func refreshStapleAt(serial pki.Serial, this, next time.Time) time.Time {
	fifth := next.Sub(this) / 5
	share := float64(binary.BigEndian.Uint32(serial[12:])) / (1 << 32) // random bits
	return this.Add(2*fifth + time.Duration(share*float64(fifth))).Truncate(time.Microsecond)
}

// putStaple puts a staple in place, if what it says is still so.
func putStaple(ctx context.Context, tx *store.Tx, made store.Staple) (bool, error) {
	record, err := tx.Certificate(ctx, made.Serial)
	if err != nil || !record.RevokedAt.IsZero() {
		return false, err
	}
	before, err := tx.NewestStaple(ctx, made.Serial)
	switch {
	case err != nil && fault.CodeOf(err) != fault.NotFound:
		return false, err
	case err == nil && before.RefreshAt.After(tx.Now):
		return false, nil // another server was first
	}
	return true, tx.PutStaple(ctx, made, before.Digest)
}

// forgetStaples removes those that have ended. It writes only where there are any.
func (c *Control) forgetStaples(ctx context.Context) error {
	var ended int64
	err := c.db.Read(ctx, func(tx *store.Tx) (err error) {
		ended, err = tx.EndedStaples(ctx)
		return err
	})
	if err != nil || ended == 0 {
		return err
	}
	return c.change(ctx, func(tx *store.Tx) error { return tx.DeleteEndedStaples(ctx) })
}

// desireStaple says which staple a placement is to have beside its newest
// certificate: the one in the store, while it is good and says what is so.
func desireStaple(ctx context.Context, tx *store.Tx, expanded fleet.Expanded, newest store.Issued, desired *api.DesiredPlacement) error {
	if !expanded.Profile.Revocation.Staple || !takesStaple(expanded.Target.Kind) || !newest.RevokedAt.IsZero() {
		return nil
	}
	staple, err := tx.NewestStaple(ctx, newest.Serial)
	if err != nil {
		return ignoreMissing(err)
	}
	if staple.NextUpdate.After(tx.Now) {
		desired.StapleDigest, desired.StapleUntil = staple.Digest.String(), stamp(staple.NextUpdate)
	}
	return nil
}

// stapleByDigest finds a staple, also one that another has taken the place of.
func stapleByDigest(ctx context.Context, tx *store.Tx, digest pki.Fingerprint) ([]byte, error) {
	staple, err := tx.StapleByDigest(ctx, digest)
	return staple.DER, err
}
