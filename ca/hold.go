package ca

import (
	"crypto"
	"crypto/x509"
	"time"

	"github.com/rotunda-pki/rotunda/internal/fault"
	"github.com/rotunda-pki/rotunda/pki"
)

// CeremonyKeys are the roots' keys that are at hand.
type CeremonyKeys struct {
	Old crypto.Signer // of the root that is trusted now; nil: it can't sign, nor make a bridge
	New crypto.Signer // of a new root
}

// HoldCeremony carries a request out: it makes the new root where one is
// wanted, signs the issuing authority, and makes the bridge where there can be
// one. noBridge says why there is none although one was asked for.
func HoldCeremony(now time.Time, request CeremonyRequest, keys CeremonyKeys) (response CeremonyResponse, noBridge, err error) {
	if response.Request, err = request.Digest(); err != nil {
		return response, nil, err
	}
	key := keys.Old
	if response.Root = request.Root; request.NewRoot != nil {
		if key = keys.New; key == nil {
			return response, nil, fault.New(fault.Invalid, "the request is for a new root: a key for it is needed")
		}
		response.Root, _, err = CreateRoot(now, RootOrder{
			TrustDomain: request.Issuing.TrustDomain, Name: request.NewRoot.Name, Key: key, Lifetime: request.NewRoot.Lifetime,
		})
		if err != nil {
			return response, nil, err
		}
	}
	if key == nil {
		return response, nil, fault.New(fault.Invalid, "the key of root %q is needed to sign", response.Root.Subject)
	}
	if keys.Old != nil && !pki.KeyMatches(keys.Old, oldRoot(request)) {
		return response, nil, fault.New(fault.Invalid, "the key is not that of the root %q that is trusted now", oldRoot(request).Subject).
			WithRemedy("say the key of that root")
	}
	if request.NewRoot != nil {
		if response.RootCRL, err = SignRootCRL(now, response.Root, key, now.UnixMilli(), NewEntries(WholeList)); err != nil {
			return response, nil, err
		}
	}
	if response.Issuing, err = SignIssuing(now, response.Root, key, request); err != nil || request.Bridge == nil {
		return response, nil, err
	}
	if keys.Old == nil {
		return response, fault.New(fault.Invalid, "the key of the old root %q was not at hand", request.Bridge.Old.Subject), nil
	}
	if noBridge = CheckBridge(now, request.Bridge.Old, response.Root, response.Issuing); noBridge != nil {
		return response, noBridge, nil
	}
	response.Bridge, err = CreateBridge(now, request.Bridge.Old, keys.Old, response.Root, request.PublicURL, request.Bridge.OldID)
	return response, nil, err
}

// oldRoot is the root that is trusted now.
func oldRoot(request CeremonyRequest) *x509.Certificate {
	if request.Bridge != nil {
		return request.Bridge.Old
	}
	return request.Root
}
