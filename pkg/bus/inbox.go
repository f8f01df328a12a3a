package bus

import (
	"encoding/json"
	"fmt"
	"log/slog"
	"strconv"
	"strings"
	"sync"

	"github.com/nats-io/nats.go"
	"github.com/nats-io/nats.go/jetstream"
)

// inbox hands answers, JetStream's acknowledgements and the recorder's replies,
// to whoever waits for them. One subscription with a wildcard serves all:
// `<inbox prefix>.<unique>.<number>`. When the connection is lost everybody
// who waits is told so: his answer may have been on it.
type inbox struct {
	prefix string // with the last dot
	logger *slog.Logger

	mu      sync.Mutex
	next    uint64
	waiters map[string]*waiter // by the subject's last token
}

// waiter waits for one answer.
type waiter struct {
	subject string
	token   string
	answer  chan answer // cap 1, never closed
}

type answer struct {
	msg *nats.Msg
	err error
}

func newInbox(logger *slog.Logger) *inbox {
	return &inbox{logger: logger, waiters: make(map[string]*waiter)}
}

// open subscribes. The subscription ends with the connection.
func (in *inbox) open(nc *nats.Conn) error {
	in.prefix = nc.NewInbox() + "."
	sub, err := nc.Subscribe(in.prefix+"*", in.deliver)
	if err != nil {
		return fmt.Errorf("subscribe to answers: %w: %w", ErrUnavailable, err)
	}
	// An answer is never dropped for want of room: each is waited for, and who
	// waits is bounded by what is in flight.
	if err := sub.SetPendingLimits(-1, -1); err != nil {
		return fmt.Errorf("subscribe to answers: %w: %w", ErrUnavailable, err)
	}
	return nil
}

func (in *inbox) expect() *waiter {
	in.mu.Lock()
	defer in.mu.Unlock()
	in.next++
	token := strconv.FormatUint(in.next, 36)
	w := &waiter{subject: in.prefix + token, token: token, answer: make(chan answer, 1)}
	in.waiters[token] = w
	return w
}

func (in *inbox) forget(w *waiter) {
	in.mu.Lock()
	defer in.mu.Unlock()
	delete(in.waiters, w.token)
}

// deliver takes the first answer; a batch that is handed out twice is answered
// twice.
func (in *inbox) deliver(m *nats.Msg) {
	token := strings.TrimPrefix(m.Subject, in.prefix)
	in.mu.Lock()
	w := in.waiters[token]
	delete(in.waiters, token)
	in.mu.Unlock()
	if w == nil {
		in.logger.Debug("an answer came for nobody", "subject", m.Subject)
		return
	}
	w.answer <- answer{msg: m}
}

// lost tells everybody who waits that the connection broke.
func (in *inbox) lost(err error) {
	in.mu.Lock()
	waiters := in.waiters
	in.waiters = make(map[string]*waiter)
	in.mu.Unlock()
	for _, w := range waiters {
		w.answer <- answer{err: err}
	}
}

// statusHeader marks what the server itself says in place of an answer.
const (
	statusHeader       = "Status"
	statusNoResponders = "503"
)

// acknowledged is nil where JetStream took the message.
func (a answer) acknowledged() error {
	if a.err != nil {
		return a.err
	}
	if len(a.msg.Data) == 0 && a.msg.Header.Get(statusHeader) == statusNoResponders {
		return nats.ErrNoResponders
	}
	var ack struct {
		Error  *jetstream.APIError `json:"error"`
		Stream string              `json:"stream"`
	}
	if err := json.Unmarshal(a.msg.Data, &ack); err != nil {
		return fmt.Errorf("%w: %w", jetstream.ErrInvalidJSAck, err)
	}
	if ack.Error != nil {
		return ack.Error
	}
	// Whatever else answers on the subject has not kept the message for us.
	if ack.Stream != StreamName {
		return fmt.Errorf("%w: stream %q answered", jetstream.ErrInvalidJSAck, ack.Stream)
	}
	return nil
}

// validReply reports whether an answer may be sent to subject: below the inbox
// prefix only, so that a producer cannot make us publish anywhere else.
func validReply(inboxPrefix, subject string) bool {
	rest, ok := strings.CutPrefix(subject, inboxPrefix+".")
	if !ok || len(subject) > 256 {
		return false
	}
	for token := range strings.SplitSeq(rest, ".") {
		if !plainToken(token) {
			return false
		}
	}
	return true
}
