package reconcile_test

import (
	"context"
	"log/slog"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"github.com/spiffe/go-spiffe/v2/spiffeid"

	"github.com/rotunda-pki/rotunda/api"
	"github.com/rotunda-pki/rotunda/archive"
	"github.com/rotunda-pki/rotunda/ca"
	"github.com/rotunda-pki/rotunda/control"
	"github.com/rotunda-pki/rotunda/keys"
	"github.com/rotunda-pki/rotunda/pki"
	"github.com/rotunda-pki/rotunda/reconcile"
	"github.com/rotunda-pki/rotunda/store"
)

// What is over goes some minutes after the start and every hour after that, by
// itself; a pass that failed is said, and the next one makes up for it.
func TestRetentionComesRoundByItself(t *testing.T) {
	dir := t.TempDir()
	synctest.Test(t, func(t *testing.T) {
		ahead := time.Duration(0)
		db, c := retaining(t, dir, func() time.Time { return time.Now().Add(ahead) })
		for range 3 {
			operatorCertificate(t, c)
		}
		ahead = 400 * 24 * time.Hour
		var said strings.Builder
		ctx, stop := context.WithCancel(t.Context())
		ended := make(chan error, 1)
		go func() { ended <- reconcile.Retention(ctx, c, slog.New(slog.NewTextHandler(&said, nil))) }()

		time.Sleep(59 * time.Second)
		synctest.Wait()
		if last, _ := c.LastPass(); !last.At.IsZero() {
			t.Errorf("a pass %s after the start", 59*time.Second)
		}
		time.Sleep(62 * time.Second)
		synctest.Wait()
		if last, err := c.LastPass(); last.At.IsZero() || err == nil || !strings.Contains(said.String(), "carry out retention") {
			t.Errorf("there is no directory for archives, and the first pass, %v, ended with %v; said was %s", last.At, err, said.String())
		}
		if err := os.Mkdir(filepath.Join(dir, "later"), 0o700); err != nil {
			t.Fatal(err)
		}
		time.Sleep(76 * time.Minute)
		synctest.Wait()
		if last, err := c.LastPass(); err != nil || last.Certificates != 2 || len(last.Archives) != 1 {
			t.Errorf("the second pass: %+v, %v; two of three certificates may go", last, err)
		}
		if names, err := archive.Dir(filepath.Join(dir, "later", "archive")).Names(); err != nil || len(names) != 1 {
			t.Errorf("archives: %v, %v", names, err)
		}
		stop()
		if err := <-ended; err != context.Canceled {
			t.Errorf("the loop ended with %v", err)
		}
		if err := db.Close(); err != nil {
			t.Error(err)
		}
	})
}

// retaining founds a trust domain that keeps certificates for a day.
func retaining(t *testing.T, dir string, now func() time.Time) (*store.DB, *control.Control) {
	t.Helper()
	must := func(err error) {
		t.Helper()
		if err != nil {
			t.Fatal(err)
		}
	}
	must(keys.NewKEKFile(filepath.Join(dir, "kek")))
	kek, err := keys.OpenKEK(keys.Source{File: filepath.Join(dir, "kek")})
	must(err)
	domain := spiffeid.RequireTrustDomainFromString("retention.example")
	root, key, err := ca.CreateRoot(now(), ca.RootOrder{TrustDomain: domain, Name: "root", Algorithm: pki.ECDSAP256, Lifetime: 3650 * 24 * time.Hour})
	must(err)
	db, err := store.Open(t.Context(), store.Options{Path: filepath.Join(dir, "rotunda.db"), Now: now, Create: true})
	must(err)
	must(control.Found(t.Context(), db, control.Founding{
		TrustDomain: domain, Root: root, RootKey: key, Algorithm: pki.ECDSAP256, IssuingLifetime: 1000 * 24 * time.Hour,
		PublicURL: "http://localhost", KEK: kek, Caller: control.Caller{Kind: control.Socket},
	}))
	c, err := control.Open(t.Context(), control.Options{
		DB: db, KEK: kek, PublicURL: "http://localhost", Now: now, Log: slog.New(slog.DiscardHandler),
		Retention: control.Retention{Certificates: 24 * time.Hour}, Archive: archive.Dir(filepath.Join(dir, "later", "archive")),
	})
	must(err)
	return db, c
}

func operatorCertificate(t *testing.T, c *control.Control) {
	t.Helper()
	key, err := pki.ECDSAP256.Generate()
	if err != nil {
		t.Fatal(err)
	}
	csr, err := pki.NewCSR(key)
	if err != nil {
		t.Fatal(err)
	}
	if _, err := c.IssueOperator(t.Context(), control.Caller{Kind: control.Socket}, &api.IssueOperatorRequest{Name: "ann", Csr: csr}); err != nil {
		t.Fatal(err)
	}
}
