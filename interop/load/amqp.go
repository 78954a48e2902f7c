package load

import (
	"context"
	"crypto/tls"
	"errors"
	"net"

	amqp "github.com/rabbitmq/amqp091-go"

	"github.com/rotunda-pki/rotunda/interop/eye"
	"github.com/rotunda-pki/rotunda/probe"
)

type rabbit struct {
	conn    *amqp.Connection
	channel *amqp.Channel
}

// RabbitMQ publishes with confirmation.
func RabbitMQ(address string) Dialer {
	return func(ctx context.Context, config *tls.Config) (Session, error) {
		conn, err := amqp.DialConfig("amqp://guest:guest@"+address+"/", amqp.Config{
			Dial: func(string, string) (net.Conn, error) {
				session, err := eye.Dial(ctx, address, probe.NoPreamble, config)
				if err != nil {
					return nil, err
				}
				end, _ := ctx.Deadline() // amqp lifts it once the connection is open
				return session, session.SetDeadline(end)
			},
		})
		if err != nil {
			return nil, err
		}
		channel, err := conn.Channel()
		if err == nil {
			err = channel.Confirm(false)
		}
		if err != nil {
			_ = conn.Close()
			return nil, err
		}
		return &rabbit{conn, channel}, nil
	}
}

func (r *rabbit) Request(ctx context.Context) error {
	confirmation, err := r.channel.PublishWithDeferredConfirmWithContext(ctx, "amq.fanout", "", false, false, amqp.Publishing{Body: []byte("hello")})
	if err != nil {
		return err
	}
	confirmed, err := confirmation.WaitContext(ctx)
	if err == nil && !confirmed {
		err = errors.New("it took a message and did not confirm it")
	}
	return err
}

func (r *rabbit) Close() error { return r.conn.Close() }
