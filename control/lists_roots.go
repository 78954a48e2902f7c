package control

import (
	"context"
	"fmt"
	"slices"
	"time"

	"github.com/rotunda-pki/rotunda/ca"
	"github.com/rotunda-pki/rotunda/internal/fault"
	"github.com/rotunda-pki/rotunda/store"
)

// rootListSoon is how long before its end it is said of a root's list that it ends,
// or a quarter of its life where that is less.
const rootListSoon = 14 * 24 * time.Hour

// rootListWords say which roots that some bundle trusts have no list, or one that has
// ended or ends soon. No server signs another: it comes from where the root's key is,
// for a foreign root from its owner. A process that reads lists refuses meanwhile
// what is under such a root.
func (c *Control) rootListWords(ctx context.Context, tx *store.Tx) (words []string, err error) {
	w, err := c.worldAt(ctx, tx)
	if err != nil || !w.wantsLists() {
		return nil, err
	}
	bundles, err := tx.Bundles(ctx)
	if err != nil {
		return nil, err
	}
	all, err := tx.Authorities(ctx)
	if err != nil {
		return nil, err
	}
	for _, root := range all {
		trusted := func(b store.Bundle) bool { return isUnder(root, b, nil) }
		if root.Kind != store.RootAuthority || root.CrossOf != "" || !slices.ContainsFunc(bundles, trusted) {
			continue
		}
		head, err := tx.CRLHead(ctx, root.ID, ca.WholeList)
		if err != nil && fault.CodeOf(err) != fault.NotFound {
			return nil, err
		}
		if says := rootListSays(root, head, tx.Now); says != "" {
			words = append(words, says)
		}
	}
	return words, nil
}

// rootListSays is empty where the list holds for long enough.
func rootListSays(root store.Authority, head store.CRLHead, now time.Time) string {
	const harm = "processes that get lists refuse what is under it"
	soon := min(rootListSoon, head.NextUpdate.Sub(head.ThisUpdate)/4)
	switch {
	case head.Number == 0 || !head.NextUpdate.After(now):
		return missingList(root, head) + "; " + harm
	case head.NextUpdate.Sub(now) <= soon:
		return fmt.Sprintf("the CRL of authority %s ends at %s, and then %s: %s", root.Name, head.NextUpdate.UTC().Format(time.RFC3339), harm, rootListRemedy(root))
	}
	return ""
}

// rootListRemedy is the command by which a root's list comes here: no root's key is.
func rootListRemedy(root store.Authority) string {
	how := "--root-key FILE"
	if root.Origin == store.KeyForeign {
		how = "--install FILE"
	}
	return fmt.Sprintf("rotunda authority crl %s %s", root.Name, how)
}
