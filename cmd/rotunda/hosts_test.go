package main

import "testing"

// What people read names hosts; what they copy into a command line names ids.
func TestSentencesNameHosts(t *testing.T) {
	const one, two, alone = "01a21a11-e25d-785d-94fb-cb28a4379f24", "01a21a11-e29b-7df3-b542-b878a42e74ba", "01a21a11-e2cf-72c4-93c8-f83b4372b9d1"
	var known hosts
	for agent, host := range map[string]string{one: "twin", two: "twin", alone: "db-1"} {
		known.learn(agent, host)
	}
	for said, want := range map[string]string{
		"redis on agent " + alone + " has not shown it":      "redis on agent db-1 has not shown it",
		"agent " + one + ", agent " + two:                    "agent twin …a4379f24, agent twin …a42e74ba",
		"rotunda agent retire " + alone:                      "rotunda agent retire " + alone,
		"an Exception of trust-adopt for agent/" + alone:     "an Exception of trust-adopt for agent/" + alone,
		"agent 01a21a11-e333-7394-817e-bc9ed7c6f23e is away": "agent 01a21a11-e333-7394-817e-bc9ed7c6f23e is away",
	} {
		if got := known.spoken(said); got != want {
			t.Errorf("%q is said as %q, not %q", said, got, want)
		}
	}
}
