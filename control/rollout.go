package control

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"maps"
	"net/url"
	"slices"
	"strings"

	"google.golang.org/protobuf/encoding/protojson"
	"google.golang.org/protobuf/proto"

	"github.com/rotunda-pki/rotunda/api"
	"github.com/rotunda-pki/rotunda/fleet"
	"github.com/rotunda-pki/rotunda/internal/fault"
	"github.com/rotunda-pki/rotunda/rollout"
	"github.com/rotunda-pki/rotunda/store"
)

// mostInRollout bounds how many placements a rollout is over: it is written in
// one transaction.
const mostInRollout = 100_000

// StartRollout records that placements are to rotate in waves, and whom that is
// over. It asks nobody yet: AdvanceRollouts does, as far as the plan allows. A
// dry run returns the plan and changes nothing.
func (c *Control) StartRollout(ctx context.Context, caller Caller, req *api.StartRolloutRequest) (*api.StartRolloutResponse, error) {
	if err := authorize(caller, "rollout.start"); err != nil {
		return nil, err
	}
	if count(req.Intent != "", req.Service != "", len(req.Selector) > 0, req.All) != 1 {
		return nil, fault.New(fault.Invalid, "a rollout wants an intent, a service, a selector or all, and exactly one of them")
	}
	spec, err := c.rolloutSpec(req)
	if err != nil {
		return nil, err
	}
	response := &api.StartRolloutResponse{}
	body := func(tx *store.Tx) error {
		proto.Reset(response)
		places, well, err := c.chosen(ctx, tx, req, spec)
		if err != nil {
			return err
		}
		begin := beginning{name: spec.Name, selection: selectionOf(req), spec: spec, reason: req.Reason, well: well}
		if begin.waves, begin.parts, err = rollout.Plan(spec, places); err != nil {
			return err
		}
		if response.Rollout, response.Members, err = c.beginRollout(ctx, tx, caller, begin); err != nil || req.DryRun {
			return err
		}
		response.AuditId, err = done(ctx, tx, caller, "rollout.start", "Rollout/"+response.Rollout.Id, map[string]any{
			"name": spec.Name, "selection": response.Rollout.Selection, "placements": len(begin.parts), "waves": len(begin.waves), "reason": req.Reason, "profile": string(spec.Profile),
		})
		return err
	}
	if req.DryRun {
		return response, c.dryRun(ctx, body)
	}
	if err := c.change(ctx, body); err != nil {
		return nil, err
	}
	c.watchers.wakeAgents()
	return response, nil
}

// errDryRun rolls a dry run back.
var errDryRun = fault.New(fault.Internal, "a dry run")

// dryRun does what a verb would do, and takes it back: so what it shows is what
// would be, refusals too.
func (c *Control) dryRun(ctx context.Context, body func(*store.Tx) error) error {
	err := c.change(ctx, func(tx *store.Tx) error {
		if err := body(tx); err != nil {
			return err
		}
		return errDryRun
	})
	if errors.Is(err, errDryRun) {
		return nil
	}
	return err
}

// beginning is a rollout that is about to begin.
type beginning struct {
	name      string
	selection []byte
	spec      rollout.Spec
	waves     []rollout.Wave
	parts     []rollout.Planned
	well      int
	undoes    string
	reason    string
}

func (c *Control) beginRollout(ctx context.Context, tx *store.Tx, caller Caller, b beginning) (*api.RolloutInfo, []*api.RolloutMember, error) {
	if len(b.parts) > mostInRollout {
		return nil, nil, fault.New(fault.Invalid, "rollout %s would be over %d placements, at most %d may be", b.name, len(b.parts), mostInRollout).
			WithRemedy("choose services or labels, and begin one after the other")
	}
	record := store.Rollout{
		ID: newID(), Name: b.name, Selection: b.selection, Well: b.well, Undoes: b.undoes, Reason: b.reason, BegunBy: caller.String(),
	}
	var err error
	if record.Spec, err = json.Marshal(b.spec); err != nil {
		return nil, nil, err
	}
	if record.Waves, err = json.Marshal(b.waves); err != nil {
		return nil, nil, err
	}
	var parts []store.RolloutPart
	for _, part := range b.parts {
		parts = append(parts, store.RolloutPart{PlacementID: part.Placement.String(), Wave: part.Wave, Through: part.Through})
	}
	if err := tx.InsertRollout(ctx, record, parts); err != nil {
		if fault.CodeOf(err) == fault.Conflict {
			err = fault.New(fault.Conflict, "a rollout %s is under way", b.name).WithRemedy("--name gives this one another name")
		}
		return nil, nil, err
	}
	record.BegunAt = tx.Now
	f, err := c.openFacts(ctx, tx)
	if err != nil {
		return nil, nil, err
	}
	if b.undoes == "" {
		if err := f.model.CheckCalendar(b.spec, tx.Now); err != nil {
			return nil, nil, err
		}
	}
	if err := c.announceRollout(ctx, tx, f, record, b); err != nil {
		return nil, nil, err
	}
	info, err := f.info(record, tx.Now)
	return info, f.members(record), err
}

// chosen lists the live placements with a certificate that a request means, and
// counts those that are well.
func (c *Control) chosen(ctx context.Context, tx *store.Tx, req *api.StartRolloutRequest, spec rollout.Spec) (places []rollout.Seat, well int, err error) {
	w, err := c.worldAt(ctx, tx)
	if err != nil {
		return nil, 0, err
	}
	if err := knownSelection(w, req); err != nil {
		return nil, 0, err
	}
	agents, err := tx.Agents(ctx)
	if err != nil {
		return nil, 0, err
	}
	byID := map[string]store.Agent{}
	for _, agent := range agents {
		byID[agent.ID] = agent
	}
	all, err := tx.Placements(ctx)
	if err != nil {
		return nil, 0, err
	}
	var over []candidate
	for _, placement := range all {
		agent := byID[placement.AgentID]
		if placement.Orphan || !meant(w, req, placement, agent) || !inSlice(spec.Slice, agent) {
			continue
		}
		over = append(over, candidate{placement, agent})
		seat, isWell, err := seatOf(ctx, tx, placement, agent)
		if err != nil {
			return nil, 0, err
		}
		if isWell {
			well++
		}
		places = append(places, seat)
	}
	if spec.Profile != "" {
		err = c.checkProfile(ctx, tx, w, spec, over)
	}
	return places, well, err
}

// seatOf is a placement as a rollout is planned over it, and whether it is well.
func seatOf(ctx context.Context, tx *store.Tx, placement store.Placement, agent store.Agent) (rollout.Seat, bool, error) {
	through, err := newestGeneration(ctx, tx, placement)
	if err != nil {
		return rollout.Seat{}, false, err
	}
	report, err := storedReport(placement)
	return rollout.Seat{ID: rolloutID(placement.ID), Region: agent.Region, Through: through}, isWell(placement, report), err
}

// knownSelection refuses names that nothing has.
func knownSelection(w *world, req *api.StartRolloutRequest) error {
	for kind, name := range map[fleet.Kind]string{fleet.KindIntent: req.Intent, fleet.KindService: req.Service} {
		if name == "" {
			continue
		}
		if _, known := w.set[fleet.Key{Kind: kind, Name: fleet.Name(name)}]; !known {
			return fault.New(fault.NotFound, "%s %s does not exist", strings.ToLower(string(kind)), printable(name)).
				WithRemedy("rotunda get %ss lists those that do", strings.ToLower(string(kind)))
		}
	}
	return nil
}

func meant(w *world, req *api.StartRolloutRequest, placement store.Placement, agent store.Agent) bool {
	intent, declared := w.set.Intent(fleet.Name(placement.Intent))
	if !declared || intent.Identity == nil {
		return false // it has no certificate that could rotate
	}
	for label, value := range req.Selector {
		if agent.Labels[label] != value {
			return false
		}
	}
	return req.All || len(req.Selector) > 0 || placement.Intent == req.Intent || req.Service != "" && string(intent.Service) == req.Service
}

// rolloutSpec reads how a rollout is to go.
func (c *Control) rolloutSpec(req *api.StartRolloutRequest) (rollout.Spec, error) {
	asked := req.Spec
	if asked == nil {
		asked = &api.RolloutSpec{}
	}
	spec := rollout.Spec{
		Name: req.Name, NewKey: asked.NewKey, Urgent: asked.Urgent, ByRegion: asked.ByRegion, Regions: asked.Regions, Soak: fleet.Duration(asked.Soak.AsDuration()),
		PerMinute: int(asked.PerMinute), AtOnce: int(asked.AtOnce), Steps: rollout.DefaultSteps,
		Notice: fleet.Duration(asked.Notice.AsDuration()), Profile: fleet.Name(asked.Profile), Slice: asked.Slice,
		Gates: rollout.Gates{Level: fleet.Level(asked.Level), Failures: int(asked.Failures), Health: asked.Health, Adoption: asked.Adoption, Told: asked.Told},
	}
	if spec.Name == "" {
		spec.Name = defaultName(req)
	}
	if _, err := fleet.ParseName(spec.Name); err != nil {
		return spec, fault.Wrap(fault.Invalid, err, "the rollout's name").WithRemedy("--name NAME")
	}
	if asked.PerMinute == 0 {
		spec.PerMinute = rollout.DefaultPerMinute
	}
	if _, known := levels[spec.Gates.Level]; !known && spec.Gates.Level != "" {
		return spec, fault.New(fault.Invalid, "level %s is not known", printable(asked.Level)).WithRemedy("write delivered, loaded or proven")
	}
	if len(asked.Steps) > 0 {
		spec.Steps = nil
	}
	for _, text := range asked.Steps {
		step, err := rollout.ParseStep(text)
		if err != nil {
			return spec, err
		}
		spec.Steps = append(spec.Steps, step)
	}
	for _, window := range asked.Windows {
		spec.Windows = append(spec.Windows, fleet.Name(window))
	}
	for _, gate := range asked.Gates {
		if err := c.checkGate(gate); err != nil {
			return spec, err
		}
		spec.Gates.Outside = append(spec.Gates.Outside, rollout.Gate{Name: fleet.Name(gate.Name), Webhook: gate.Webhook, Command: gate.Command})
	}
	return spec, spec.Check()
}

func (c *Control) checkGate(gate *api.RolloutGate) error {
	if _, err := fleet.ParseName(gate.Name); err != nil {
		return fault.Wrap(fault.Invalid, err, "the name of a gate")
	}
	if gate.Webhook != "" && gate.Command != "" {
		return fault.New(fault.Invalid, "gate %s has a webhook and a command: it is one of the two", gate.Name).WithRemedy("make two gates of it")
	}
	if gate.Command != "" && !slices.Contains(c.commands, gate.Command) {
		return fault.New(fault.Invalid, "gate %s: the server has no command %s", gate.Name, printable(gate.Command)).
			WithRemedy("name it under commands in rotunda.yaml")
	}
	u, err := url.Parse(gate.Webhook)
	if gate.Webhook != "" && (err != nil || u.Scheme != "https" && u.Scheme != "http" || u.Host == "") {
		return fault.New(fault.Invalid, "gate %s: webhook %s is not an http or https URL", gate.Name, printable(gate.Webhook))
	}
	return nil
}

func defaultName(req *api.StartRolloutRequest) string {
	switch {
	case req.Intent != "":
		return req.Intent
	case req.Service != "":
		return req.Service
	case req.All:
		return "all"
	}
	return strings.ToLower(strings.Join(slices.Sorted(maps.Values(req.Selector)), "-"))
}

// selectionOf is what was chosen, as it is recorded.
func selectionOf(req *api.StartRolloutRequest) []byte {
	text, err := protojson.Marshal(&api.StartRolloutRequest{Intent: req.Intent, Service: req.Service, Selector: req.Selector, All: req.All})
	if err != nil { // a message of strings always has JSON, unless they are not UTF-8
		return []byte("{}")
	}
	return text
}

func selectionWords(selection []byte) string {
	req := &api.StartRolloutRequest{}
	if err := protojson.Unmarshal(selection, req); err != nil {
		return otherWords(selection)
	}
	switch {
	case req.Intent != "":
		return "intent " + req.Intent
	case req.Service != "":
		return "service " + req.Service
	case req.All:
		return "all"
	}
	var labels []string
	for _, label := range slices.Sorted(maps.Keys(req.Selector)) {
		labels = append(labels, fmt.Sprintf("%s=%s", label, req.Selector[label]))
	}
	return "agents with " + strings.Join(labels, ", ")
}

// otherWords is a selection that no operator made by labels or names.
func otherWords(selection []byte) string {
	var words string
	if err := json.Unmarshal(selection, &words); err != nil {
		return string(selection)
	}
	return words
}
