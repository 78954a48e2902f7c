package target

import (
	"context"
	"encoding/base64"
	"encoding/json"
	"errors"
	"os/exec"
	"regexp"
	"slices"
	"strings"

	"github.com/rotunda-pki/rotunda/internal/fault"
)

// What a node is asked, in Erlang. Debian's rabbitmqctl hands its arguments
// to a shell when it is run as root, so no dollar sign, backtick or backslash
// may stand here, and no line may end.
const (
	// rabbitLook binds B (text to binary) and L, the TLS listeners of this node
	// as [protocol, port, certfile, keyfile, cacertfile].
	rabbitLook = `B = fun(X) -> try unicode:characters_to_binary(X) of Y when is_binary(Y) -> Y; _ -> <<>> catch _:_ -> <<>> end end, ` +
		`F = fun(K, O) -> B(proplists:get_value(K, O, [])) end, ` +
		`L = try [[B(atom_to_list(P)), Port, F(certfile, S), F(keyfile, S), F(cacertfile, S)] ` +
		`|| {listener, _, P, _, _, Port, O} <- rabbit_networking:node_listeners(node()), is_list(O), ` +
		`S <- [O | [V || {ssl_opts, V} <- O, is_list(V)]], proplists:is_defined(certfile, S) orelse proplists:is_defined(cacertfile, S)] ` +
		`catch _:_ -> [] end, `
	// rabbitTry binds Bad: what is wrong with the files of the listeners, as
	// [file, reason]. A pair whose key type it does not know, or whose key is
	// encrypted, is not tried.
	rabbitTry = `R = fun(File) -> case file:read_file(File) of {ok, D} -> public_key:pem_decode(D); {error, E} -> throw([File, B(file:format_error(E))]) end end, ` +
		`N = fun(File) -> case R(File) of [] -> throw([File, <<"no PEM block in it">>]); Es -> Es end end, ` +
		`M = fun(C, K) -> try {_, T, _, _} = public_key:pkix_decode_cert(C, otp), {_, {_, _, Ps}, Pub} = element(8, T), ` +
		`Key = public_key:pem_entry_decode(K), X = <<"rotunda">>, ` +
		`public_key:verify(X, sha256, public_key:sign(X, sha256, Key), case element(1, Pub) of 'ECPoint' -> {Pub, Ps}; _ -> Pub end) ` +
		`catch _:_ -> unknown end end, ` +
		`T = fun([_, _, C, K, A]) -> try A =:= <<>> orelse N(A), C =:= <<>> orelse K =:= <<>> orelse ` +
		`(begin [{_, Leaf, _} | _] = N(C), [Own | _] = [W || W <- N(K), element(1, W) =/= 'EcpkParameters'], M(Leaf, Own) =/= false end) ` +
		`orelse throw([K, <<"not the key of the certificate in ", C/binary>>]), [] catch throw:Why -> [Why]; _:_ -> [[C, <<"it or its key can not be read as PEM">>]] end end, ` +
		`Bad = lists:append([T(One) || One <- L]), `
	// rabbitClear clears the cache where nothing is wrong.
	rabbitClear = `case Bad of [] -> ssl:clear_pem_cache(); _ -> no end, `
	// rabbitCached binds Held: the fingerprints of the leaves that the VM has
	// in its cache for the listeners.
	rabbitCached = `Held = try lists:usort([binary:encode_hex(crypto:hash(sha256, D)) || [_, _, C, _, _] <- L, ` +
		`{_, [{'Certificate', D, _} | _]} <- ets:lookup(ssl_pem_cache, C)]) catch _:_ -> [] end, `
	// rabbitWell binds Apart, the nodes that a partition keeps away, and Alarms.
	rabbitWell = `S = fun(X) -> B(io_lib:format("~0p", [X])) end, ` +
		`Apart = try [S(X) || X <- rabbit_node_monitor:partitions()] catch _:_ -> [] end, ` +
		`Alarms = try [S(X) || X <- rabbit_alarm:get_alarms()] catch _:_ -> [] end, `
)

// rabbitNode is what a node says of itself.
type rabbitNode struct {
	Version   string           `json:"version"`
	Running   bool             `json:"running"`
	Listeners []rabbitListener `json:"listeners"`
	Bad       [][2]string      `json:"bad"`
	Held      []string         `json:"held"`
	Apart     []string         `json:"apart"`
	Alarms    []string         `json:"alarms"`
	Closed    int64            `json:"closed"`
}

type rabbitListener struct {
	protocol          string
	port              int
	certfile, key, ca string
}

func (l *rabbitListener) UnmarshalJSON(text []byte) error {
	return json.Unmarshal(text, &[]any{&l.protocol, &l.port, &l.certfile, &l.key, &l.ca})
}

// ask has a node evaluate these parts, and answer with what it named so.
func (t Target) askRabbit(ctx context.Context, host Host, parts string, more ...string) (rabbitNode, error) {
	fields := []string{"version => B(rabbit_misc:version())", "running => rabbit:is_running()", "listeners => L"}
	// Base64, since the answer is printed as a term, whose lines are broken.
	expression := rabbitLook + parts + "base64:encode(iolist_to_binary(rabbit_json:encode(#{" + strings.Join(append(fields, more...), ", ") + "})))."
	output, err := t.rabbitmqctl(ctx, host, "eval", expression)
	if err != nil {
		return rabbitNode{}, err
	}
	var node rabbitNode
	if err := decodeRabbit(output, &node); err != nil {
		return rabbitNode{}, fault.Wrap(fault.Invalid, err, "%s of target %s does not answer as RabbitMQ 3.10 does; it printed %.300q", t.Control.Program, t.Name, ending(output)).
			WithRemedy("name rabbitmqctl of RabbitMQ 3.10 or newer as targets.%s.program", t.Name)
	}
	if !node.Running {
		return rabbitNode{}, fault.New(fault.Unavailable, "RabbitMQ %s is not running, though its node is up", t.Name).WithRemedy("rabbitmqctl start_app")
	}
	return node, nil
}

// rabbitTerm is a binary as Erlang prints it: strings, one a line.
var rabbitTerm = regexp.MustCompile(`<<((?:\s*"[A-Za-z0-9+/=]*")+)>>`)

func decodeRabbit(output string, node *rabbitNode) error {
	found := rabbitTerm.FindStringSubmatch(output)
	if found == nil {
		return errors.New("no answer in what it printed")
	}
	encoded := strings.NewReplacer(`"`, "", " ", "", "\n", "", "\t", "", "\r", "").Replace(found[1])
	answer, err := base64.StdEncoding.DecodeString(encoded)
	if err != nil {
		return err
	}
	return json.Unmarshal(answer, node)
}

// rabbitmqctl runs the tool and tells its failures apart.
func (t Target) rabbitmqctl(ctx context.Context, host Host, command ...string) (string, error) {
	if t.Control.Program == "" {
		return "", fault.New(fault.Invalid, "target %s: agent.yaml names no program to reach RabbitMQ by", t.Name).
			WithRemedy("write program: /usr/sbin/rabbitmqctl, and runAs: rabbitmq, under targets.%s", t.Name)
	}
	output, err := host.Program(ctx, t.Control.RunAs, slices.Concat([]string{t.Control.Program}, t.Control.Arguments, command)...)
	exit, ran := errors.AsType[*exec.ExitError](err)
	says := func(any ...string) bool {
		return slices.ContainsFunc(any, func(words string) bool { return strings.Contains(output, words) })
	}
	switch {
	case err == nil:
		return output, nil
	case ctx.Err() != nil:
		return "", fault.Wrap(fault.Unavailable, ctx.Err(), "%s of target %s did not end", t.Control.Program, t.Name)
	case !ran:
		return "", fault.Wrap(fault.Invalid, err, "run %s of target %s", t.Control.Program, t.Name).
			WithRemedy("mend targets.%s.program in agent.yaml", t.Name)
	case says("Erlang distribution failed", "Only root or rabbitmq", "erlang.cookie"):
		return "", fault.New(fault.Forbidden, "the node of target %s does not take %s as one of its own", t.Name, t.Control.Program).
			WithRemedy("both need the same Erlang cookie: write runAs: rabbitmq under targets.%s, or run the agent as a user that may read the cookie; it printed: %s", t.Name, diagnosis(output))
	case says("DIAGNOSTICS"):
		return "", fault.New(fault.Unavailable, "RabbitMQ %s does not answer: %s", t.Name, diagnosis(output)).
			WithRemedy("start it; if it runs, name its node in targets.%s.arguments: [-n, rabbit@HOST]", t.Name)
	}
	return "", fault.New(fault.Invalid, "%s of target %s ended with %v: %s", t.Control.Program, t.Name, exit, ending(output)).
		WithRemedy("run it by hand as user %s and mend what it complains of", orOwn(t.Control.RunAs))
}

func orOwn(user string) string {
	if user == "" {
		return "of the agent"
	}
	return user
}

// diagnosis is the part of rabbitmqctl's long advice that says what it saw.
func diagnosis(output string) string {
	var points []string
	for line := range strings.Lines(output) {
		line = strings.TrimSpace(line)
		if point, is := strings.CutPrefix(line, "* "); is && !strings.Contains(point, "suggestion") && !strings.Contains(point, "guide") &&
			(strings.Contains(point, "epmd") || strings.Contains(point, "TCP") || strings.Contains(point, "can't establish")) {
			points = append(points, strings.TrimSpace(point))
		}
	}
	if len(points) == 0 {
		return ending(output)
	}
	return strings.Join(points, "; ")
}
