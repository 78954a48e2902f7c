package rollout

import (
	"cmp"
	"slices"
	"strings"

	"github.com/google/uuid"

	"github.com/rotunda-pki/rotunda/internal/fault"
	"github.com/rotunda-pki/rotunda/schedule"
)

// Seat is a placement that a rollout is to be over.
type Seat struct {
	ID      uuid.UUID
	Region  string
	Through uint64 // the generation that must be passed
}

// Planned is a placement's part in a rollout: it is a goal, as the spec is.
type Planned struct {
	Placement uuid.UUID
	Wave      int // from 0
	Through   uint64
}

// Plan cuts places into waves. Within a region they go in the order of a stable
// hash, so that neighbours are in different waves where there are enough. A step
// that, rounded, reaches nobody new makes no wave; a region without placements
// is refused. The parts are in the order in which they go.
func Plan(spec Spec, places []Seat) ([]Wave, []Planned, error) {
	if err := spec.Check(); err != nil {
		return nil, nil, err
	}
	if len(places) == 0 {
		return nil, nil, fault.New(fault.NotFound, "rollout %s would be over nothing", spec.Name).
			WithRemedy("see what there is with: rotunda status")
	}
	regions := map[string][]Seat{}
	for _, place := range places {
		if !spec.ByRegion {
			place.Region = ""
		}
		regions[place.Region] = append(regions[place.Region], place)
	}
	var waves []Wave
	parts := make([]Planned, 0, len(places))
	ordered, err := spec.order(regions)
	if err != nil {
		return nil, nil, err
	}
	for _, region := range ordered {
		these := spread(regions[region])
		reached := 0
		for _, step := range spec.Steps {
			until := step.of(len(these))
			if until <= reached {
				continue
			}
			for _, place := range these[reached:until] {
				parts = append(parts, Planned{place.ID, len(waves), place.Through})
			}
			waves = append(waves, Wave{region, step, until - reached})
			reached = until
		}
	}
	return waves, parts, nil
}

// order is the regions that have placements, those that are named first.
func (s Spec) order(regions map[string][]Seat) ([]string, error) {
	var ordered []string
	for region := range regions {
		ordered = append(ordered, region)
	}
	rank := map[string]int{}
	for i, region := range s.Regions {
		if len(regions[region]) == 0 {
			return nil, fault.New(fault.Invalid, "region %q would be an empty wave: it has none of the placements", short(region)).
				WithRemedy("leave it out, or mend its name")
		}
		rank[region] = i - len(s.Regions)
	}
	slices.SortFunc(ordered, func(a, b string) int { return cmp.Or(rank[a]-rank[b], strings.Compare(a, b)) })
	return ordered, nil
}

// spread sorts places by a stable hash, reckoned once for each.
func spread(places []Seat) []Seat {
	keys := make(map[uuid.UUID]string, len(places))
	for _, place := range places {
		keys[place.ID] = schedule.Order("wave", string(place.ID[:]))
	}
	sorted := slices.Clone(places)
	slices.SortFunc(sorted, func(a, b Seat) int { return strings.Compare(keys[a.ID], keys[b.ID]) })
	return sorted
}
