package fleetload

import (
	"context"
	"crypto/rand"
	"fmt"
	"net"
	"slices"
	"strings"
	"sync"
	"time"

	"connectrpc.com/connect"
	"google.golang.org/protobuf/types/known/durationpb"

	"github.com/rotunda-pki/rotunda/api"
	"github.com/rotunda-pki/rotunda/api/apiconnect"
	"github.com/rotunda-pki/rotunda/internal/fault"
	"github.com/rotunda-pki/rotunda/pki"
)

// Label is the key of the label that every agent of a run has; its value is the
// run's name. Selectors of other intents that ask for labels don't match them.
const Label = "rotunda-bench"

// prefix of the names of the documents of runs.
const prefix = "rotunda-bench-"

// Run is a load's place in an installation: all that it makes there has its
// label or its name, so that it can be taken away whoever made it.
type Run struct {
	Name     string
	Plane    Plane
	Operator apiconnect.OperatorServiceClient
}

// NewRun names a run, and learns from the server where its agents go. address
// is where that is seen from here; empty: what the server says.
func NewRun(ctx context.Context, operator apiconnect.OperatorServiceClient, address string) (*Run, error) {
	info, err := operator.Info(ctx, connect.NewRequest(&api.InfoRequest{}))
	if err != nil {
		return nil, err
	}
	if address == "" {
		address = info.Msg.AgentAddress
	}
	host, _, err := net.SplitHostPort(address)
	if err != nil {
		return nil, fault.New(fault.Invalid, "the agents' address %q is not like HOST:PORT", address).
			WithRemedy("say where agents connect to with --agents-address")
	}
	anchors, err := pki.ParseBundleDER(info.Msg.Anchors)
	if err != nil {
		return nil, err
	}
	return &Run{
		Name: strings.ToLower(rand.Text()[:6]), Operator: operator,
		Plane: Plane{Address: address, ServerName: host, Anchors: anchors, Domain: info.Msg.TrustDomain},
	}, nil
}

// Document is the name of the run's service, profile, policy and intent.
func (r *Run) Document() string { return prefix + r.Name }

const documents = `apiVersion: rotunda/v1
kind: Service
metadata: {name: NAME}
spec: {owner: {team: rotunda-bench, contact: rotunda-bench@DOMAIN, runbook: "https://DOMAIN/rotunda-bench"}}
---
apiVersion: rotunda/v1
kind: Profile
metadata: {name: NAME}
spec: {lifetime: LIFETIME, usages: [clientAuth]}
---
apiVersion: rotunda/v1
kind: Policy
metadata: {name: NAME}
spec:
  rules:
    - {name: simulated-agents, effect: allow, when: 'service == "NAME" && names.uri.startsWith("spiffe://DOMAIN/NAME/")'}
---
apiVersion: rotunda/v1
kind: Intent
metadata: {name: NAME}
spec:
  service: NAME
  selector: {rotunda-bench: RUN}
  profile: NAME
  identity: {spiffePath: "/NAME/{{ labels.host }}"}
  files: {directory: /var/empty/NAME}
`

// The lifetimes between which Change goes to and fro: short, so that what a run
// leaves in the store goes soon, and long enough that nothing is due meanwhile.
const lifetime = 4 * time.Hour

func (r *Run) files(life time.Duration) []*api.SourceFile {
	text := strings.NewReplacer("NAME", r.Document(), "RUN", r.Name, "DOMAIN", r.Plane.Domain, "LIFETIME", fmt.Sprintf("%dm", int(life.Minutes()))).Replace(documents)
	return []*api.SourceFile{{Path: r.Document() + ".yaml", Content: []byte(text)}}
}

// Plan says what Declare would change, and refuses what it could not.
func (r *Run) Plan(ctx context.Context) ([]*api.Difference, error) {
	plan, err := r.Operator.Plan(ctx, connect.NewRequest(&api.PlanRequest{Files: r.files(lifetime)}))
	if err != nil {
		return nil, err
	}
	return plan.Msg.Differences, refusedBy(plan.Msg.Findings)
}

// Declare makes the run's documents.
func (r *Run) Declare(ctx context.Context) error { return r.Change(ctx, 0) }

// Change makes another desired state for each agent of the run: the lifetime
// that its profile asks for is so many minutes longer.
func (r *Run) Change(ctx context.Context, minutes int) error {
	done, err := r.Operator.Apply(ctx, connect.NewRequest(&api.ApplyRequest{Files: r.files(lifetime + time.Duration(minutes)*time.Minute)}))
	if err != nil {
		return err
	}
	return refusedBy(done.Msg.Findings)
}

// Changed says whether a desired state is that of the change.
func Changed(desired *api.DesiredState, minutes int) bool {
	want := lifetime + time.Duration(minutes)*time.Minute
	return len(desired.Placements) == 1 && desired.Placements[0].GetProfile().GetLifetime().AsDuration() == want
}

func refusedBy(findings []*api.Finding) error {
	for _, finding := range findings {
		if finding.Severity == api.Finding_ERROR {
			return fault.New(fault.Invalid, "this installation does not take the documents of a run: %s: %s", finding.Document, finding.Message).WithRemedy("%s", finding.Remedy)
		}
	}
	return nil
}

// Others lists the active agents of the installation that are of no run, and
// those that are of one.
func (r *Run) Others(ctx context.Context) (others, simulated []*api.AgentInfo, err error) {
	all, err := r.Operator.ListAgents(ctx, connect.NewRequest(&api.ListAgentsRequest{}))
	if err != nil {
		return nil, nil, err
	}
	for _, agent := range all.Msg.Agents {
		switch _, labelled := agent.Labels[Label]; {
		case agent.State != "active":
		case labelled:
			simulated = append(simulated, agent)
		default:
			others = append(others, agent)
		}
	}
	return others, simulated, nil
}

// Enrol makes agents of the run.
func (r *Run) Enrol(ctx context.Context, count, atOnce int, progress func(done int)) ([]*Agent, error) {
	return r.EnrolLike(ctx, count, atOnce, func(i int) map[string]string {
		return map[string]string{Label: r.Name, "host": fmt.Sprintf("a%05d", i)}
	}, progress)
}

// EnrolLike makes agents with such labels, each with a token of its own. What was
// made when it fails is returned too.
func (r *Run) EnrolLike(ctx context.Context, count, atOnce int, labels func(i int) map[string]string, progress func(done int)) ([]*Agent, error) {
	var (
		mu  sync.Mutex
		all []*Agent
	)
	err := Each(ctx, count, atOnce, func(ctx context.Context, i int) error {
		token, err := r.Operator.CreateToken(ctx, connect.NewRequest(&api.CreateTokenRequest{
			Labels: labels(i), Ttl: durationpb.New(15 * time.Minute),
		}))
		if err != nil {
			return err
		}
		agent, err := r.Plane.Enrol(ctx, token.Msg.Token)
		if err != nil {
			return err
		}
		mu.Lock()
		defer mu.Unlock()
		all = append(all, agent)
		progress(len(all))
		return nil
	})
	return all, err
}

// Connect connects agents, some at once.
func Connect(ctx context.Context, agents []*Agent, atOnce int, told Told) error {
	return Each(ctx, len(agents), atOnce, func(_ context.Context, i int) error { return agents[i].Connect(ctx, told) })
}

// Disconnect ends the connections of agents.
func Disconnect(agents []*Agent) {
	_ = Each(context.Background(), len(agents), 64, func(_ context.Context, i int) error { agents[i].Disconnect(); return nil }) // nothing in it fails
}

// Runs names the runs of which something is left in the installation.
func Runs(ctx context.Context, operator apiconnect.OperatorServiceClient) ([]string, error) {
	found := map[string]bool{}
	docs, err := operator.ListDocuments(ctx, connect.NewRequest(&api.ListDocumentsRequest{}))
	if err != nil {
		return nil, err
	}
	for _, doc := range docs.Msg.Documents {
		if name, ok := strings.CutPrefix(doc.Name, prefix); ok {
			found[name] = true
		}
	}
	_, simulated, err := (&Run{Operator: operator}).Others(ctx)
	if err != nil {
		return nil, err
	}
	for _, agent := range simulated {
		found[agent.Labels[Label]] = true
	}
	var names []string
	for name := range found {
		names = append(names, name)
	}
	slices.Sort(names)
	return names, nil
}
