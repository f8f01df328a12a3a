package webhook

import (
	"container/list"
	"crypto/sha256"
	"sync"
	"time"
)

// Tokens remembers which mail came with which token of Mailgun, since the
// signature covers token and time but not the mail: who has seen one request
// could send another mail with its signature. The same mail again is fine, it is
// a delivery that Mailgun repeats.
//
// It holds at most the newest MaxTokens in memory and forgets them with the
// process, so it narrows a replay and does not rule it out; what does is TLS. It
// may be used concurrently.
type Tokens struct {
	mu   sync.Mutex
	seen map[[sha256.Size]byte]*list.Element
	// order has the oldest at the front.
	order list.List
}

// MaxTokens is how many tokens are remembered: some 16 MB.
const MaxTokens = 1 << 16

// NewTokens makes an empty Tokens.
func NewTokens() *Tokens {
	return &Tokens{seen: map[[sha256.Size]byte]*list.Element{}}
}

type seenToken struct {
	token, mail [sha256.Size]byte
	until       time.Time
}

// use remembers a token with a digest of its mail until a time, and says
// whether the token is new or came with the same mail.
func (t *Tokens) use(token string, mail [sha256.Size]byte, now, until time.Time) bool {
	key := sha256.Sum256([]byte(token))
	t.mu.Lock()
	defer t.mu.Unlock()
	for first := t.order.Front(); first != nil; first = t.order.Front() {
		old, ok := first.Value.(seenToken)
		if ok && now.Before(old.until) && t.order.Len() < MaxTokens {
			break
		}
		t.order.Remove(first)
		delete(t.seen, old.token)
	}
	if at, ok := t.seen[key]; ok {
		old, _ := at.Value.(seenToken)
		return old.mail == mail
	}
	t.seen[key] = t.order.PushBack(seenToken{token: key, mail: mail, until: until})
	return true
}
