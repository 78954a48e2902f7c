package agent

import "testing"

func TestTargetList(t *testing.T) {
	c := &Config{Targets: map[string]TargetConfig{"web": {Kind: "nginx"}, "cache": {Kind: "redis"}}}
	if got := c.targetList(); got != "cache=redis,web=nginx" {
		t.Errorf("says %q", got)
	}
	if got := facts("1", c.targetList())["targets"]; got != "cache=redis,web=nginx" {
		t.Errorf("the fact says %q", got)
	}
	if _, said := facts("1", (&Config{}).targetList())["targets"]; said {
		t.Error("no targets are a fact")
	}
}
