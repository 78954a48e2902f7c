package target

import (
	"context"
	"errors"
	"fmt"
	"net"
	"strings"

	"github.com/rotunda-pki/rotunda/internal/fault"
	"github.com/rotunda-pki/rotunda/probe"
)

// redisSession is a conversation with a Redis that has let the agent in.
type redisSession struct{ *conversation }

// redisLogin opens one. The caller closes it.
func (t Target) redisLogin(ctx context.Context) (*redisSession, error) {
	c, err := t.converse(ctx)
	if err != nil {
		return nil, err
	}
	s := &redisSession{c}
	if err := s.login(); err != nil {
		s.close()
		return nil, err
	}
	return s, nil
}

// login says who the agent is. What is answered is not repeated: a server that
// does not know AUTH quotes the password.
func (s *redisSession) login() error {
	control := s.t.Control
	if control.User == "" && control.Password == nil {
		return nil
	}
	words := []string{"AUTH"}
	if control.User != "" {
		words = append(words, control.User)
	}
	password, err := s.t.secret()
	if err != nil {
		return err
	}
	answer, err := s.ask(append(words, string(password))...)
	if err != nil {
		return err
	}
	text := answer.text
	switch {
	case !answer.failed:
		return nil
	case strings.HasPrefix(text, "WRONGPASS") || strings.HasPrefix(text, "ERR invalid password"):
		return fault.New(fault.Forbidden, "target %s: Redis does not let in %s with the password of targets.%s.passwordFile", s.t.Name, s.user(), s.t.Name).
			WithRemedy("give both the same password: ACL SETUSER %s on '>PASSWORD' %s", s.name(), redisRights)
	case strings.Contains(text, "without any password configured"):
		return fault.New(fault.Invalid, "target %s: Redis asks its default user for no password, and agent.yaml names one", s.t.Name).
			WithRemedy("remove targets.%s.passwordFile, or better make an ACL user of the agent's own and name it as targets.%s.user", s.t.Name, s.t.Name)
	case strings.HasPrefix(text, "LOADING") || strings.Contains(text, "max number of clients"):
		return s.refused("AUTH", text)
	}
	word, _, _ := strings.Cut(text, " ")
	return fault.New(fault.Invalid, "target %s: Redis refuses AUTH (%.20q)", s.t.Name, word).
		WithRemedy("see whether redis.conf renames AUTH")
}

func (s *redisSession) name() string {
	if s.t.Control.User == "" {
		return "default"
	}
	return s.t.Control.User
}

func (s *redisSession) user() string { return "user " + s.name() }

// ask says a command and reads its reply, which may be an error.
func (s *redisSession) ask(words ...string) (reply, error) {
	if err := s.say(encodeCommand(words)); err != nil {
		return reply{}, err
	}
	answer, err := readReply(s.in)
	switch {
	case err == nil:
		s.heard = true
		return answer, nil
	case errors.Is(err, errNotRESP):
		said, _ := s.in.Peek(min(80, s.in.Buffered())) // what is there already
		return reply{}, s.t.stranger(said)
	case errors.Is(err, errReplyTooLong):
		return reply{}, fault.Wrap(fault.Invalid, err, "target %s: %s at its control path", s.t.Name, words[0]).
			WithRemedy("see that targets.%s.address in agent.yaml leads to Redis", s.t.Name)
	}
	return reply{}, s.broke(err)
}

// tell is ask for a command that has to succeed.
func (s *redisSession) tell(words ...string) (reply, error) {
	answer, err := s.ask(words...)
	if err == nil && answer.failed {
		err = s.refused(strings.Join(words[:min(2, len(words))], " "), answer.text)
	}
	return answer, err
}

// refused is an error that Redis answers to a command.
func (s *redisSession) refused(command, text string) error {
	word, _, _ := strings.Cut(text, " ")
	switch {
	case word == "NOAUTH":
		return fault.New(fault.Forbidden, "target %s: Redis demands a password", s.t.Name).
			WithRemedy("make an ACL user (user rotunda on '>PASSWORD' -@all %s) and name it as targets.%s.user and passwordFile in agent.yaml", redisRights, s.t.Name)
	case word == "NOPERM":
		return fault.New(fault.Forbidden, "target %s: %s of Redis has no right to %s", s.t.Name, s.user(), command).
			WithRemedy("ACL SETUSER %s %s, and the same in redis.conf or the ACL file", s.name(), redisRights)
	case word == "LOADING", word == "BUSY", word == "MASTERDOWN", strings.Contains(text, "max number of clients"):
		return fault.New(fault.Unavailable, "target %s: Redis can't answer %s now: %s", s.t.Name, command, quote(text))
	case strings.HasPrefix(text, "ERR unknown command"):
		return fault.New(fault.Invalid, "target %s: Redis does not know %s", s.t.Name, command).
			WithRemedy("remove rename-command from redis.conf and take rights by ACL, or remove targets.%s from agent.yaml and let the intent name a restartCommand", s.t.Name)
	}
	return fault.New(fault.Invalid, "target %s: Redis refuses %s: %s", s.t.Name, command, quote(text))
}

// info is a section of INFO.
func (s *redisSession) info(section string) (map[string]string, error) {
	answer, err := s.tell("INFO", section)
	return values(answer.text, ":"), err
}

// contactRedis looks and tries its rights, on what does not exist.
func contactRedis(ctx context.Context, _ Host, t Target) (Contact, error) {
	s, err := t.redisLogin(ctx)
	if err != nil {
		return Contact{}, err
	}
	defer s.close()
	seen, err := s.look()
	if err != nil {
		return seen, err
	}
	return seen, s.mayConfigure()
}

// look says what answers, and that it is the server that was meant.
func (s *redisSession) look() (Contact, error) {
	server, err := s.info("server")
	if err != nil {
		return Contact{}, err
	}
	seen := Contact{Product: "redis", Version: server["redis_version"]}
	if seen.Version == "" {
		return Contact{}, s.t.stranger([]byte("INFO without redis_version"))
	}
	if version := server["valkey_version"]; version != "" {
		seen = Contact{Product: "valkey", Version: version}
	}
	switch {
	case server["redis_mode"] == "sentinel":
		return seen, fault.New(fault.Invalid, "target %s: %s is a Sentinel, which takes certificates at its start only", s.t.Name, seen).
			WithRemedy("give its intent target.kind files and a restartCommand, and remove targets.%s from agent.yaml", s.t.Name)
	case below(server["redis_version"], 7, 0):
		return seen, s.t.tooOld(seen.Product, seen.Version, "7.0", "CONFIG SET of several files at once")
	}
	return seen, s.checkTLS()
}

// checkTLS sees that it speaks TLS and is the one whose files these are.
func (s *redisSession) checkTLS() error {
	answer, err := s.tell("CONFIG", "GET", "tls-*")
	if err != nil {
		return err
	}
	config := answer.pairs()
	port, built := config["tls-port"]
	switch {
	case !built:
		return fault.New(fault.Invalid, "target %s: this Redis is built without TLS", s.t.Name).
			WithRemedy("install one that is built with BUILD_TLS=yes")
	case port == "0":
		return fault.New(fault.Invalid, "target %s: this Redis has TLS switched off (tls-port 0)", s.t.Name).
			WithRemedy("write tls-port and the three files of %s into redis.conf and restart it", s.t.Directory)
	case config["tls-ca-cert-dir"] != "":
		return fault.New(fault.Invalid, "target %s: this Redis also trusts all of tls-ca-cert-dir %s, so that no CA could be withdrawn", s.t.Name, config["tls-ca-cert-dir"]).
			WithRemedy("remove tls-ca-cert-dir: %s holds the CAs", s.t.File("bundle.pem"))
	}
	_, want, _ := net.SplitHostPort(s.t.Address)
	if want == "" || want == port || s.t.follows(config["tls-cert-file"], "chain.pem") {
		return nil
	}
	return fault.New(fault.Invalid, "target %s: the control path %s leads to another Redis: its tls-port is %s and its tls-cert-file %q, the target is at %s",
		s.t.Name, s.t.Control.Address, port, config["tls-cert-file"], s.t.Address).
		WithRemedy("mend targets.%s.address in agent.yaml; where the port is mapped, write tls-cert-file %s into redis.conf", s.t.Name, s.t.File("chain.pem"))
}

// mayConfigure tries a CONFIG SET of something that does not exist: rights are
// judged first, so the answer shows them and nothing is changed.
func (s *redisSession) mayConfigure() error {
	answer, err := s.ask("CONFIG", "SET", "rotunda-tries-its-rights", "1")
	if err != nil {
		return err
	}
	if strings.HasPrefix(answer.text, "NOPERM") || strings.HasPrefix(answer.text, "ERR unknown command") {
		return s.refused("CONFIG SET", answer.text)
	}
	return nil
}

// healthOfRedis asks for what the next member's turn depends on. Of its
// replicas a master knows only those that are connected: the others' own
// health tells.
func healthOfRedis(ctx context.Context, _ Host, t Target, _ probe.Spec) error {
	if t.Control == nil {
		return nil
	}
	s, err := t.redisLogin(ctx)
	if err != nil {
		return err
	}
	defer s.close()
	all := map[string]string{}
	for _, section := range []string{"persistence", "replication", "cluster"} {
		some, err := s.info(section)
		if err != nil {
			return err
		}
		for name, value := range some {
			all[name] = value
		}
	}
	if all["cluster_enabled"] == "1" {
		answer, err := s.tell("CLUSTER", "INFO")
		if err != nil {
			return err
		}
		for name, value := range values(answer.text, ":") {
			all[name] = value
		}
	}
	return judgeRedis(all)
}

// judgeRedis is pure.
func judgeRedis(info map[string]string) error {
	switch {
	case info["loading"] == "1" || info["async_loading"] == "1":
		return errors.New("it is loading its data")
	case info["role"] == "slave" && info["master_link_status"] != "up":
		return fmt.Errorf("its link to the master %s:%s is %s", info["master_host"], info["master_port"], info["master_link_status"])
	case info["role"] == "slave" && info["master_sync_in_progress"] != "0":
		return errors.New("it is in the middle of a sync from its master")
	case info["role"] != "slave" && info["role"] != "master":
		return fmt.Errorf("it says that its role is %q", info["role"])
	case info["cluster_enabled"] == "1" && (info["cluster_state"] != "ok" || info["cluster_slots_pfail"] != "0" || info["cluster_slots_fail"] != "0"):
		return fmt.Errorf("its cluster's state is %s, with %s slots failing and %s failed", info["cluster_state"], info["cluster_slots_pfail"], info["cluster_slots_fail"])
	}
	for i := 0; ; i++ {
		replica, ok := info[fmt.Sprintf("slave%d", i)]
		if !ok {
			return nil
		}
		if !strings.Contains(replica, "state=online") {
			return fmt.Errorf("a replica is not in sync yet: %s", replica)
		}
	}
}
