package agent

import (
	"context"
	"crypto/sha256"
	"encoding/pem"
	"errors"
	"io/fs"
	"os"
	"path"
	"path/filepath"
	"sync"

	"google.golang.org/protobuf/proto"

	"github.com/rotunda-pki/rotunda/api"
)

// mostTestimony bounds the lists that go with a testimony: a server takes no
// message above 8 MiB, and the certificates must have room.
const mostTestimony = 4 << 20

// testimonies are what this agent is asked to say for stores that were put back
// from a copy.
type testimonies struct {
	asked chan *api.TestifyRequest // of capacity one
	taken chan struct{}            // of capacity one: the server took it

	mu     *sync.Mutex
	wanted string // the newest that was asked for
}

func newTestimonies() testimonies {
	return testimonies{asked: make(chan *api.TestifyRequest, 1), taken: make(chan struct{}, 1), mu: new(sync.Mutex)}
}

// askedToTestify passes on that the server wants to hear what the host holds.
// What is seen of the log, and in which epoch, is noted here, where both belong
// together.
func (s *syncer) askedToTestify(id string) {
	if id == "" {
		return
	}
	t := &s.testimonies
	t.mu.Lock()
	defer t.mu.Unlock()
	if id == t.wanted {
		return
	}
	t.wanted = id
	select {
	case <-t.asked:
	default:
	}
	t.asked <- s.seenOfLog()
}

func (s *syncer) seenOfLog() *api.TestifyRequest {
	return &api.TestifyRequest{Checkpoint: s.newestCheckpoint(), Epoch: s.epoch()}
}

// testify says what was asked for, until the server has taken it or ctx ends.
func (s *syncer) testify(ctx context.Context) error {
	for {
		var request *api.TestifyRequest
		select {
		case <-ctx.Done():
			return ctx.Err()
		case request = <-s.testimonies.asked:
		}
		for failures := 0; ; failures++ {
			s.fillTestimony(request)
			_, err := call(ctx, s, api.AgentServiceClient.Testify, request)
			if err == nil {
				notify(s.testimonies.taken)
				break
			}
			if ctx.Err() != nil {
				return ctx.Err()
			}
			s.log.Warn("the server did not take what this host holds", "error", err)
			if err := wait(ctx, s.pace.renewBackoff.after(failures), nil); err != nil {
				return err
			}
		}
	}
}

// bearWitness tells a server that does not know this agent what it has seen: the
// store may have been put back from a copy from before the identity was issued.
func (s *syncer) bearWitness(ctx context.Context, server string, identity *Identity) {
	link, err := dial(server, trust{identity.TrustDomain, anchored(identity.Anchors), s.now}, identity, s.version)
	if err != nil {
		return
	}
	defer link.close()
	ctx, cancel := context.WithTimeout(ctx, callTimeout)
	defer cancel()
	request := s.seenOfLog()
	s.fillTestimony(request)
	response, err := link.Testify(ctx, request)
	switch {
	case err != nil:
		s.log.Debug("the server does not hear this agent as a witness", "server", server, "error", link.explain(err))
	case response.Taken:
		s.log.Warn("the server has no record of this agent's identity and took its testimony", "server", server)
	}
}

// fillTestimony adds all that the host holds: certificates that can't be read
// are not in use.
func (s *syncer) fillTestimony(request *api.TestifyRequest) {
	request.Identities, request.Placements, request.Crls = nil, nil, nil
	for _, identity := range []*Identity{s.ids.current.Load(), s.ids.fallback()} {
		if identity != nil {
			request.Identities = append(request.Identities, identity.Chain.Leaf.Raw)
		}
	}
	lists := map[[sha256.Size]byte]bool{}
	placements, err := fs.ReadDir(s.state.root.FS(), placementsDir)
	if err != nil {
		s.log.Error("what this host holds can't be listed", "error", err)
	}
	for _, entry := range placements {
		d := drawer{root: s.state.root, dir: path.Join(placementsDir, entry.Name())}
		held, directory, err := d.held(entry.Name())
		if err != nil {
			s.log.Error("what a placement holds can't be told", "placement", entry.Name(), "error", err)
			continue
		}
		request.Placements = append(request.Placements, held)
		for _, der := range listsIn(directory) {
			if sum := sha256.Sum256(der); !lists[sum] && proto.Size(request)+len(der) <= mostTestimony {
				lists[sum] = true
				request.Crls = append(request.Crls, der)
			}
		}
	}
}

// held is what a placement's drawer has, and the directory that is its own.
func (d drawer) held(id string) (*api.HeldPlacement, string, error) {
	r, err := d.read()
	if err != nil {
		return nil, "", err
	}
	held := &api.HeldPlacement{PlacementId: id, LastGeneration: r.LastGeneration}
	for _, g := range r.Generations {
		chain, err := d.chain(g.Number)
		if errors.Is(err, fs.ErrNotExist) {
			continue // asked for and not answered, or destroyed
		}
		if err != nil {
			return nil, "", err
		}
		held.Certificates = append(held.Certificates, &api.HeldCertificate{Generation: g.Number, Der: chain.Leaf.Raw})
	}
	return held, r.Directory, nil
}

// listsIn are the CRLs of the revision in use.
func listsIn(directory string) [][]byte {
	if directory == "" {
		return nil
	}
	content, err := os.ReadFile(filepath.Join(directory, currentLink, "crl.pem"))
	if err != nil {
		return nil // none was delivered
	}
	var lists [][]byte
	for {
		block, rest := pem.Decode(content)
		if block == nil {
			return lists
		}
		if block.Type == "X509 CRL" {
			lists = append(lists, block.Bytes)
		}
		content = rest
	}
}
