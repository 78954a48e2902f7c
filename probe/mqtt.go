package probe

import "io"

// MQTT 3.1.1: a clean session without a name of its own, so that nobody else's
// is taken over and none is left behind; no user, no will, 10 s to live.
var (
	mqttConnect    = []byte{0x10, 12, 0, 4, 'M', 'Q', 'T', 'T', 4, 2, 0, 10, 0, 0}
	mqttDisconnect = []byte{0xe0, 0}
)

// talkMQTT connects and takes leave. A CONNACK of whatever code (the name, the
// user, the password are wanting) comes from a server that took the client
// into TLS.
func talkMQTT(session io.ReadWriter, _ partner) (Acceptance, error) {
	if _, err := session.Write(mqttConnect); err != nil {
		return NotKnown, err
	}
	accepted, err := anyAnswer(session)
	if err == nil {
		_, _ = session.Write(mqttDisconnect) // a courtesy
	}
	return accepted, err
}
