package target

import (
	"context"
	"fmt"
	"strconv"
	"strings"
	"time"

	"github.com/rotunda-pki/rotunda/internal/fault"
)

// redisOrderRights is what orders take beside redisRights.
const redisOrderRights = "+client|kill"

// How often it is asked whether a link is back.
const linkEvery = 20 * time.Millisecond

// closeRedisSessions closes all clients: Redis keeps nothing of a client's
// certificate. A client in subscription is of another type.
func closeRedisSessions(ctx context.Context, _ Host, t Target, o Order) (Result, error) {
	s, err := t.redisLogin(ctx)
	if err != nil {
		return Result{}, err
	}
	defer s.close()
	if _, err := s.look(); err != nil {
		return Result{}, err
	}
	result := Result{Outcome: Done, Words: "all clients were closed, whoever issued their certificates"}
	for _, kind := range []string{"normal", "pubsub"} {
		count, err := s.kill(kind)
		if result.Count += count; err != nil {
			result.Words = fmt.Sprintf("%d clients were closed", result.Count)
			return result, err
		}
	}
	return result, nil
}

// kill closes all clients of a type but this one.
func (s *redisSession) kill(kind string) (int64, error) {
	answer, err := s.ask("CLIENT", "KILL", "TYPE", kind)
	switch {
	case err != nil:
		return 0, err
	case answer.failed && noPermission(answer.text):
		return 0, fault.New(fault.Forbidden, "target %s: %s of Redis has no right to CLIENT KILL", s.t.Name, s.user()).
			WithRemedy("ACL SETUSER %s %s, and the same in redis.conf or the ACL file", s.name(), redisOrderRights)
	case answer.failed:
		return 0, s.refused("CLIENT KILL", answer.text)
	}
	count, err := strconv.ParseInt(answer.text, 10, 64)
	if err != nil {
		return 0, fault.Wrap(fault.Invalid, err, "target %s: the answer to CLIENT KILL", s.t.Name)
	}
	return count, nil
}

// reconnectRedis breaks the links to its replicas, and the one to its master
// where it is a replica itself, and waits until they are back.
func reconnectRedis(ctx context.Context, _ Host, t Target, _ Order) (Result, error) {
	s, err := t.redisLogin(ctx)
	if err != nil {
		return Result{}, err
	}
	defer s.close()
	if _, err := s.look(); err != nil {
		return Result{}, err
	}
	before, err := s.replication()
	if err != nil {
		return Result{}, err
	}
	var broken int64
	if before.replica {
		if broken, err = s.kill("master"); err != nil {
			return Result{}, err
		}
		if broken == 0 {
			return Result{}, fault.New(fault.Unavailable, "target %s: it is a replica, and has no link to its master to break", t.Name)
		}
	}
	replicas, err := s.kill("replica")
	if err != nil {
		return Result{}, err
	}
	return s.awaitLinks(before, broken, replicas)
}

// redisLinks is what INFO says of replication.
type redisLinks struct {
	replica       bool
	err           error // why it is not well
	online        int64
	full, partial int64 // resyncs that were granted, since it started
}

func (s *redisSession) replication() (redisLinks, error) {
	all, err := s.info("replication")
	if err != nil {
		return redisLinks{}, err
	}
	stats, err := s.info("stats")
	if err != nil {
		return redisLinks{}, err
	}
	number := func(text string) int64 { n, _ := strconv.ParseInt(text, 10, 64); return n }
	return redisLinks{
		replica: all["role"] == "slave", err: judgeRedis(all), online: number(all["connected_slaves"]),
		full: number(stats["sync_full"]), partial: number(stats["sync_partial_ok"]),
	}, nil
}

// awaitLinks waits until as many replicas synced anew as were cut off, and the
// link to the master is up.
func (s *redisSession) awaitLinks(before redisLinks, master, replicas int64) (Result, error) {
	var last redisLinks
	for {
		now, err := s.replication()
		if err == nil {
			last = now
		}
		full := last.full - before.full
		synced := full + last.partial - before.partial
		if err == nil && now.err == nil && synced >= replicas && now.online >= before.online {
			return Result{Outcome: Done, Count: master + replicas, Words: redisCameBack(master, replicas, full)}, nil
		}
		if err == nil && wait(s.ctx, linkEvery) {
			continue
		}
		synced = max(0, min(synced, replicas))
		result := Result{Count: synced, Words: fmt.Sprintf("%d links were broken; %d replicas synced again", master+replicas, synced)}
		if last.err != nil {
			result.Words += "; " + last.err.Error()
		}
		return result, fault.New(fault.Unavailable, "target %s: not all links came back in time", s.t.Name).
			WithRemedy("see the log of the member that is away: it says which certificate it does not take")
	}
}

// wait says whether there is time for another look.
func wait(ctx context.Context, pause time.Duration) bool {
	timer := time.NewTimer(pause)
	defer timer.Stop()
	select {
	case <-ctx.Done():
		return false
	case <-timer.C:
		return true
	}
}

func redisCameBack(master, replicas, full int64) string {
	switch {
	case master+replicas == 0:
		return "it has no links"
	case full > 0:
		return fmt.Sprintf("the links are back, %d of them by a full sync", full)
	}
	return "the links are back, by partial syncs"
}

func noPermission(text string) bool { return strings.HasPrefix(text, "NOPERM") }
