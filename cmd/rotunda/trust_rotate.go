package main

import (
	"context"
	"crypto"
	"fmt"
	"os"
	"path/filepath"
	"time"

	"github.com/spf13/cobra"

	"github.com/rotunda-pki/rotunda/api"
	"github.com/rotunda-pki/rotunda/ca"
	"github.com/rotunda-pki/rotunda/fleet"
	"github.com/rotunda-pki/rotunda/internal/fault"
	"github.com/rotunda-pki/rotunda/keys"
	"github.com/rotunda-pki/rotunda/pki"
)

// trustOrder is one run of trust rotate or trust begin.
type trustOrder struct {
	conn      *connection
	prepare   *api.PrepareTrustRequest
	begin     *api.BeginTrustRequest
	signing   signing
	request   string // file to write instead of signing here
	over      fleet.Duration
	waves     func() error // reads how the renewals go
	waveNames []string     // of the flags that say so
	notice    fleet.Duration
	lives     [2]fleet.Duration // root, issuing
	output    *format
}

func newTrustRotateCommand() *cobra.Command {
	o := &trustOrder{prepare: &api.PrepareTrustRequest{}, begin: &api.BeginTrustRequest{}}
	cmd := &cobra.Command{
		Use:   "rotate root|issuing",
		Short: "Begin to replace the root, or the issuing authority under it",
		Long: `Begins a change of trust. The server makes the key of a new issuing authority and
keeps it; the root's key signs for it here, in this process, and stays where it is. For a
new root its key is made in the directory of --new-root, and the old root's key signs the
bridge from the old root to the new one.

With an offline root say --request FILE: the request is written and nothing begins. Carry it
to where the keys are, sign it with rotunda authority sign, and give the response to
rotunda trust begin.

The change goes on by itself up to drain, at which nothing needs the old anchor any more; from
there on rotunda trust advance lets it go. Its renewals are a rollout, with the flags of
rotunda rollout start; by default one wave, since a host that is away holds the next ones.

Where regions have issuing authorities of their own, rotate issuing --of-region replaces that of one,
and without it that of no region. A change of the root is for all: the new root's issuing authority
signs for every region, until rotunda authority create gives each its own again.

With --from the change leads away from a root that was imported (rotunda authority import)
to the one that signs already: nothing has to be signed for it, and nothing is renewed.`,
		Example: `  rotunda trust rotate root --root-key root/key.pem --new-root root-2 --reason "algorithm"
  rotunda trust rotate issuing --root-key root/key.pem --over 8h
  rotunda trust rotate issuing --of-region eu --root-key root/key.pem
  rotunda trust rotate root --request request.json`,
		Args:      cobra.MatchAll(cobra.ExactArgs(1), cobra.OnlyValidArgs),
		ValidArgs: []string{"root", "issuing"},
	}
	o.conn, o.output = connectionFlags(cmd.Flags()), outputFlag(cmd)
	flags := cmd.Flags()
	o.makeFlags(cmd)
	flags.StringVar(&o.prepare.Region, "of-region", "", "of issuing: replace the authority of this `region`")
	flags.StringVar(&o.begin.From, "from", "", "lead away from this imported root (`name`), to the one that signs now")
	completeFlag(cmd, o.conn, "from", foreignRoots)
	o.beginFlags(cmd)
	cmd.RunE = func(cmd *cobra.Command, args []string) error {
		o.prepare.Kind = args[0]
		if o.prepare.Region != "" && args[0] != "issuing" {
			return usagef("--of-region is for rotate issuing: a change of the root is for all regions")
		}
		if o.begin.From != "" {
			return o.from(cmd)
		}
		if err := o.check(); err != nil {
			return err
		}
		return o.conn.with(cmd, o.rotate)
	}
	return cmd
}

// makeFlags say where keys are and how new ones are made.
func (o *trustOrder) makeFlags(cmd *cobra.Command) {
	flags := cmd.Flags()
	o.signing.flags(flags)
	flags.StringVar(&o.prepare.RootName, "name", "", "common `name` of the new root (default: the trust domain's and the day)")
	flags.StringVar(&o.prepare.Algorithm, "algorithm", "", "of the new keys: ecdsa-p256, ecdsa-p384, ed25519, rsa-2048, rsa-3072, rsa-4096 (default: that of the old)")
	flags.Var(&span{&o.lives[0]}, "root-lifetime", "how `long` the new root lives (default: as the old)")
	flags.Var(&span{&o.lives[1]}, "issuing-lifetime", "how `long` the new issuing authority lives (default: as the old)")
	flags.StringVar(&o.request, "request", "", "write the request for an offline root to this `file`, and begin nothing")
}

func (o *trustOrder) beginFlags(cmd *cobra.Command) {
	flags := cmd.Flags()
	flags.StringVar(&o.begin.Reason, "reason", "", "why, for the audit log")
	flags.StringVar(&o.begin.Through, "through", "", "the last `phase` that it may enter by itself (default: drain)")
	flags.Var(&span{&o.over}, "over", "spread the renewals over this `time`, at least one a minute (default: 60 a minute)")
	spec := &api.RolloutSpec{}
	waves, names := renewalFlags(cmd, o.conn, spec)
	o.waveNames = names
	flags.Var(&span{&o.notice}, "notice", "tell the owners of all services this `long` before anything is done")
	flags.BoolVar(&o.begin.Told, "told", false, "do nothing before every owner was reached; --notice runs from then")
	o.waves = func() error {
		if o.over > 0 {
			o.begin.Over = spanOf(o.over)
		}
		o.begin.Notice, o.begin.Reissue = protoDuration(o.notice), spec
		return waves()
	}
	flags.BoolVar(&o.begin.CarryBridge, "carry-bridge", false, "placements send the bridge along until unbridge, for parties that were excused from adopting; one reload more for each")
	flags.BoolVar(&o.begin.CloseSessions, "close-sessions", false, "once the old root is withdrawn, close what was opened under it where the target can; some can close all or nothing")
	flags.BoolVar(&o.begin.DryRun, "dry-run", false, "sign and check, but begin nothing")
	_ = cmd.RegisterFlagCompletionFunc("through", cobra.FixedCompletions(phaseNames(), cobra.ShellCompDirectiveNoFileComp))
}

func (o *trustOrder) check() error {
	o.prepare.RootLifetime, o.prepare.IssuingLifetime = protoDuration(o.lives[0]), protoDuration(o.lives[1])
	if o.waves != nil {
		if err := o.waves(); err != nil {
			return err
		}
	}
	if o.request != "" {
		if o.begin.DryRun {
			return usagef("--request begins nothing, so it has no dry run; a response has: rotunda trust begin --response FILE --dry-run")
		}
		if o.signing.rootKey != "" || o.signing.newRoot != "" {
			return usagef("--request leaves the signing to rotunda authority sign: say --root-key and --new-root there")
		}
		return nil
	}
	return o.signing.check(o.prepare.Kind)
}

// from begins a change away from an imported root.
func (o *trustOrder) from(cmd *cobra.Command) error {
	for _, name := range []string{"root-key", "new-root", "new-root-passphrase", "name", "algorithm", "root-lifetime", "issuing-lifetime", "request", "carry-bridge", "of-region"} {
		if cmd.Flags().Changed(name) {
			return usagef("--from leads to the root that signs already: leave out --%s", name)
		}
	}
	for _, name := range append([]string{"over", "notice", "told"}, o.waveNames...) {
		if cmd.Flags().Changed(name) {
			return usagef("--from renews nothing, since what signs already goes on: --%s would do nothing, leave it out", name)
		}
	}
	if o.prepare.Kind != "root" {
		return usagef("--from is for a change of the root")
	}
	return o.conn.with(cmd, o.start)
}

func (o *trustOrder) rotate(ctx context.Context, s *server, u *ui) error {
	if o.request == "" {
		if err := o.signing.open(u); err != nil { // before anything is asked for
			return err
		}
	}
	prepared, err := invoke(ctx, s.PrepareTrust, o.prepare)
	if err != nil {
		return err
	}
	if o.request != "" {
		if err := os.WriteFile(o.request, prepared.Request, 0o644); err != nil {
			return err
		}
		return u.show(*o.output, prepared, func() {
			u.say("The request is in %s. Nothing has begun.", o.request)
			u.note("where the root's key is: rotunda authority sign --request %s --root-key KEY --out response.json", filepath.Base(o.request))
			u.note("then here: rotunda trust begin --response response.json")
		})
	}
	response, err := o.signing.sign(u, prepared.Request)
	if err != nil {
		return err
	}
	o.begin.Response = response
	return o.start(ctx, s, u)
}

// start has the server begin, and shows how it stands.
func (o *trustOrder) start(ctx context.Context, s *server, u *ui) error {
	begun, err := invoke(ctx, s.BeginTrust, o.begin)
	if err != nil {
		if o.signing.newRoot != "" {
			u.note("the new root's key is in %s: keep it until rotunda trust status shows that nothing began", o.signing.newRoot)
		}
		return err
	}
	if err := o.signing.keep(o.begin.DryRun); err != nil {
		return err
	}
	if *o.output == formatTable {
		u.hosts = knownHosts(ctx, s)
	}
	return u.show(*o.output, begun, func() {
		for _, note := range begun.Notes {
			u.note("%s", note)
		}
		if o.begin.DryRun {
			if o.begin.Response != nil {
				u.say("What was signed is good.")
			}
			u.showChange(begun.Change)
			u.say("Nothing was begun: this was a dry run.")
			return
		}
		u.showChange(begun.Change)
		u.note("Audit entry %s. rotunda trust status --watch shows how it goes.", begun.AuditId)
	})
}

func newTrustBeginCommand() *cobra.Command {
	o := &trustOrder{begin: &api.BeginTrustRequest{}}
	var path string
	cmd := &cobra.Command{
		Use:   "begin --response FILE",
		Short: "Begin a change of trust by what an offline root has signed",
		Example: `  rotunda trust begin --response response.json --reason "yearly" --dry-run
  rotunda trust begin --response response.json --reason "yearly"`,
		Args: cobra.NoArgs,
	}
	o.conn, o.output = connectionFlags(cmd.Flags()), outputFlag(cmd)
	cmd.Flags().StringVar(&path, "response", "", "the `file` that rotunda authority sign wrote")
	cmd.MarkFlagRequired("response")
	o.beginFlags(cmd)
	cmd.RunE = func(cmd *cobra.Command, _ []string) error {
		err := o.waves()
		if err != nil {
			return err
		}
		if o.begin.Response, err = os.ReadFile(path); err != nil {
			return err
		}
		return o.conn.with(cmd, o.start)
	}
	return cmd
}

// signing is the half of a ceremony that needs the root's key.
type signing struct {
	rootKey, newRoot string // paths: of a key file, of a directory
	passphrase       bool

	old, next crypto.Signer
	made      string // directory that is being filled; empty: none
}

func (g *signing) flags(flags interface {
	StringVar(*string, string, string, string)
	BoolVar(*bool, string, bool, string)
}) {
	flags.StringVar(&g.rootKey, "root-key", "", "`file` of the key of the root that is trusted now")
	flags.StringVar(&g.newRoot, "new-root", "", "`directory` to make for the new root: key.pem and cert.pem")
	flags.BoolVar(&g.passphrase, "new-root-passphrase", false, "encrypt the new root's key; the passphrase is asked for, or read as one line from stdin")
}

// check wants what a change of the kind takes. A standby takes a new root, or
// the key of the one that stands by.
func (g *signing) check(kind string) error {
	newRoot := kind == "root"
	switch {
	case kind == "standby" && g.newRoot == "" && g.rootKey == "":
		return usagef("say where the root that stands by is to be made: --new-root DIR; or, of one that stands by already, where its key is: --root-key FILE")
	case kind == "standby":
		newRoot = g.newRoot != ""
	}
	switch {
	case newRoot && g.newRoot == "":
		return usagef("say where the new root's key is to be made: --new-root DIR (or --request FILE for an offline one)")
	case !newRoot && g.newRoot != "":
		return usagef("--new-root is for a change of the root")
	case !newRoot && g.rootKey == "":
		return usagef("say where the root's key is: --root-key FILE (or --request FILE for an offline one)")
	case newRoot && exists(g.newRoot):
		return fault.New(fault.Conflict, "%s exists already", g.newRoot).WithRemedy("say another --new-root, or move it away")
	}
	return nil
}

// open opens the old root's key.
func (g *signing) open(u *ui) (err error) {
	if g.rootKey != "" {
		if g.old, err = keys.OpenFile(g.rootKey, u.passphrase("Passphrase of "+g.rootKey+": ")); err != nil {
			return err
		}
	}
	return nil
}

// makeRoot makes the new root's key, in a directory that has another name yet.
func (g *signing) makeRoot(u *ui, algorithm pki.KeyAlgorithm) (err error) {
	var passphrase []byte
	if g.passphrase {
		if passphrase, err = u.newPassphrase("the new root's key"); err != nil {
			return err
		}
	}
	if g.made, err = beginDirectory(g.newRoot); err != nil {
		return err
	}
	g.next, err = keys.CreateFile(filepath.Join(g.made, "key.pem"), algorithm, passphrase)
	return err
}

// sign carries out a request; the new root's directory is complete before
// anything that it signed leaves this process.
func (g *signing) sign(u *ui, text []byte) ([]byte, error) {
	request, err := ca.ParseCeremonyRequest(text)
	if err != nil {
		return nil, err
	}
	if request.NewRoot != nil {
		if err := g.makeRoot(u, request.NewRoot.Algorithm); err != nil {
			return nil, err
		}
	}
	response, noBridge, err := ca.HoldCeremony(time.Now(), request, ca.CeremonyKeys{Old: g.old, New: g.next})
	if err != nil {
		g.drop()
		return nil, err
	}
	if noBridge != nil {
		u.note("there is no bridge: %v", noBridge)
	}
	if g.made != "" {
		if err := os.WriteFile(filepath.Join(g.made, "cert.pem"), pki.EncodeCertificatesPEM(response.Root.Raw), 0o644); err != nil {
			g.drop()
			return nil, err
		}
		if err := os.Rename(g.made, filepath.Clean(g.newRoot)); err != nil {
			g.drop()
			return nil, fmt.Errorf("write the new root: %w", err)
		}
	}
	return response.Encode()
}

func (g *signing) drop() {
	if g.made != "" {
		_ = os.RemoveAll(g.made)
		g.made = ""
	}
}

// keep leaves the new root where it is, or takes it away after a dry run.
func (g *signing) keep(dryRun bool) error {
	if !dryRun || g.newRoot == "" {
		return nil
	}
	return os.RemoveAll(g.newRoot)
}
