package email_test

import (
	"net/netip"
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/parleyhq/parley/services/email"
)

// FuzzTake takes whatever bytes as a mail, with whatever envelope: it becomes
// events that keep the contract, and nothing else.
func FuzzTake(f *testing.F) {
	for _, raw := range []string{
		"", plain("a@customer.example", "Hello"), "From: a@b\r\nContent-Type: multipart/mixed; boundary=b\r\n\r\n--b\r\n\r\nx\r\n--b--",
		"From: x\nContent-Type: multipart/report\n\n", "Content-Type: message/delivery-status\r\n\r\n\r\nFinal-Recipient: rfc822; a@b\r\nAction: failed\r\n",
		"From: a@b, c@d\r\nTo: support+c-\xff\x00@acme.example\r\nMessage-ID: <\xff@\x00>\r\nSubject: =?utf-8?q?=00?=\r\n\r\n\x00", "\xff\xfe\r\n\r\n",
	} {
		f.Add([]byte(raw), "a@customer.example", "support@acme.example", "client.example")
		f.Add([]byte(raw), "\xff\x00", "support+c-\xff\x00@acme.example", "\x00")
	}
	v, err := validator()
	require.NoError(f, err)
	f.Fuzz(func(t *testing.T, raw []byte, from, to, helo string) {
		if len(raw) > 64<<10 {
			return
		}
		r := newRig(t, nil)
		env := bySMTP("support@acme.example", to)
		env.From, env.HELO, env.ClientIP = from, helo, netip.MustParseAddr("198.51.100.7")
		out, err := r.Take(t.Context(), env, raw)
		if err != nil {
			require.ErrorIs(t, err, email.ErrLoop)
			return
		}
		require.Positive(t, out.Events)
		require.Zero(t, out.Quarantined)
		for _, ev := range r.publisher.events("acme") {
			require.Empty(t, v.Check(ev))
		}
		// The same bytes are the same events.
		_, err = r.Take(t.Context(), env, raw)
		require.NoError(t, err)
		events := r.publisher.events("acme")
		half := len(events) / 2
		for i := range half {
			require.Equal(t, events[i].GetId(), events[half+i].GetId())
			require.Equal(t, events[i].GetContentDigest(), events[half+i].GetContentDigest())
		}
	})
}
