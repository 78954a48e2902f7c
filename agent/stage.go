package agent

import (
	"context"
	"errors"
	"fmt"
	"slices"

	"github.com/rotunda-pki/rotunda/fleet"
	"github.com/rotunda-pki/rotunda/internal/durable"
	"github.com/rotunda-pki/rotunda/internal/fault"
	"github.com/rotunda-pki/rotunda/pki"
	"github.com/rotunda-pki/rotunda/rotation"
)

// stage writes a revision beside the one in use. Nothing reads it yet; on a
// failure, what was written is taken away again.
func (p *placement) stage(ctx context.Context, w *wish, s rotation.Step) error {
	v := rotation.Revision{Number: s.Revision, Generation: s.Generation, Bundle: s.Bundle, Bridge: s.Bridge, CRL: s.CRL, Staple: s.Staple, StagedAt: p.e.Now()}
	files, err := p.write(ctx, w, v)
	if ctx.Err() != nil {
		return nil
	}
	if err != nil {
		return p.setBack(w, rotation.Stage, s.Generation, err, passing(err))
	}
	p.e.reached("stage: written")
	return p.changeSoon(func(r *record) {
		r.Stage(v)
		if r.Files == nil {
			r.Files = map[uint64][]fileFact{}
		}
		r.Files[v.Number] = files
	})
}

// write writes the files of a revision durably.
func (p *placement) write(ctx context.Context, w *wish, v rotation.Revision) (written []fileFact, err error) {
	b, err := p.bundle(ctx, v.Bundle)
	if err != nil {
		return nil, err
	}
	if err := errors.Join(p.drawer.reserve(), p.drawer.saveBundle(b), p.saveBridge(v.Bridge), p.saveLists(ctx, v)); err != nil {
		return nil, err
	}
	files, owner, err := p.files(w, v, b)
	if err != nil {
		return nil, err
	}
	l, err := openLayout(p.e.Host, w.files.directory, p.owner(), true)
	if err != nil {
		return nil, err
	}
	defer l.close()
	dir := revName(v.Number)
	if err := durable.RemoveAll(l.root, dir); err != nil {
		return nil, err
	}
	defer func() {
		if err != nil {
			err = errors.Join(err, durable.RemoveAll(l.root, dir))
		}
	}()
	if err := durable.Mkdir(l.root, dir, 0o755, nil); err != nil {
		return nil, err
	}
	p.e.reached("stage: directory made")
	earlier := p.earlier()
	for _, file := range files {
		mode := publicMode
		if file.secret {
			mode = w.files.mode
		}
		fact, err := l.put(v.Number, file, mode, owner, earlier, p.record.Files[earlier])
		if err != nil {
			return nil, fmt.Errorf("write %s: %w", file.name, err)
		}
		written = append(written, fact)
		p.e.reached("stage: file written")
	}
	return written, nil
}

// files lists the files of a revision, and whom they are to belong to.
func (p *placement) files(w *wish, v rotation.Revision, b pki.Bundle) ([]content, *durable.Owner, error) {
	owner, err := ownerOf(p.e.Host, w.files)
	if err != nil {
		return nil, nil, err
	}
	password, err := p.password(w)
	if err != nil {
		return nil, nil, err
	}
	c, err := p.drawer.credential(v)
	if err != nil {
		return nil, nil, err
	}
	s, err := p.besides(w, v, c, b)
	if err != nil {
		return nil, nil, err
	}
	files, err := contents(w.files.formats, c, b, s, password, p.e.Now())
	return files, owner, err
}

func (p *placement) password(w *wish) ([]byte, error) {
	if !w.keystores() {
		return nil, nil
	}
	return p.e.Host.Password(w.files.password)
}

// earlier is the revision whose unchanged files are taken over: the newest that
// stands, or was written last.
func (p *placement) earlier() uint64 {
	if s := p.record.Standing(); s != nil {
		return s.Number
	}
	if n := len(p.record.Revisions); n > 0 {
		return p.record.Revisions[n-1].Number
	}
	return 0
}

// bundle finds a bundle: the placement's own copy, else the agent's.
func (p *placement) bundle(ctx context.Context, digest pki.BundleDigest) (pki.Bundle, error) {
	if b, err := p.drawer.bundle(digest); err == nil {
		return b, nil
	}
	found, err := p.bundles(ctx, []pki.BundleDigest{digest})
	if err != nil {
		return pki.Bundle{}, err
	}
	return found[0], nil
}

// bundles finds bundles in the order of their digests.
func (p *placement) bundles(ctx context.Context, digests []pki.BundleDigest) ([]pki.Bundle, error) {
	if len(digests) == 0 {
		return nil, nil
	}
	texts := make([]string, len(digests))
	for i, digest := range digests {
		texts[i] = digest.String()
	}
	ctx, cancel := context.WithTimeout(ctx, issueTimeout)
	defer cancel()
	found, err := p.e.Bundles(ctx, texts)
	if err != nil {
		return nil, fault.Wrap(fault.Unavailable, err, "find bundles")
	}
	bundles := make([]pki.Bundle, len(digests))
	for i, text := range texts {
		b, ok := found[text]
		if !ok || b.Digest() != digests[i] {
			return nil, fault.New(fault.Unavailable, "bundle %s is not to be had", text)
		}
		bundles[i] = b
	}
	return bundles, nil
}

// wantedNames lists the files of a revision.
func (w *wish) wantedNames(v rotation.Revision) []string {
	identity := v.Generation != 0
	names := append([]string{bundleFile}, w.besideNames(v)...)
	for _, format := range w.files.formats {
		switch {
		case format == fleet.FormatPKCS12:
			names = append(names, pkcs12Trust)
		case format == fleet.FormatJKS:
			names = append(names, jksTrust)
		}
		if !identity {
			continue
		}
		switch format {
		case fleet.FormatPEM:
			names = append(names, certFile, keyFile, chainFile)
		case fleet.FormatCombined:
			names = append(names, combinedFile)
		case fleet.FormatPKCS12:
			names = append(names, pkcs12File)
		case fleet.FormatJKS:
			names = append(names, jksFile)
		}
	}
	slices.Sort(names)
	return slices.Compact(names)
}

func secretFile(name string) bool {
	return slices.Contains([]string{keyFile, combinedFile, pkcs12File, jksFile}, name)
}
