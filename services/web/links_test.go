package web_test

import (
	"bytes"
	"encoding/base64"
	"image/gif"
	"net/http"
	"net/url"
	"strings"
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/parleyhq/parley/pkg/bus"
	"github.com/parleyhq/parley/pkg/config"
	eventv1 "github.com/parleyhq/parley/proto/gen/parley/event/v1"
	"github.com/parleyhq/parley/services/web"
)

var mail = web.MailLink{
	Tenant: "acme", MessageID: "abc@mail.acme.example", CampaignID: "c-1", IdentifierKind: "email", Identifier: "ada@example.com",
}

const target = "https://shop.example.com/offer?id=1&utm_source=mail#top"

func TestPixelTellsThatAMailWasOpened(t *testing.T) {
	t.Parallel()
	f := newFixture(t)
	path, err := f.gateway.Links().OpenURL(mail)
	require.NoError(t, err)
	require.NotContains(t, path, "ada")
	a := f.send(http.MethodGet, path, "", header("User-Agent", "GoogleImageProxy"))
	require.Equal(t, 200, a.status)
	require.Equal(t, "image/gif", a.header.Get("Content-Type"))
	require.Equal(t, "no-store", a.header.Get("Cache-Control"))
	picture, err := gif.Decode(bytes.NewReader([]byte(a.text)))
	require.NoError(t, err)
	require.Equal(t, 1, picture.Bounds().Dx())
	_, _, _, alpha := picture.At(0, 0).RGBA()
	require.Zero(t, alpha)
	ev := f.one()
	require.Empty(t, sharedValidator().Check(ev))
	require.Equal(t, "acme", ev.GetTenant())
	require.Equal(t, "email", ev.GetChannel())
	require.Equal(t, "parley.email.opened", ev.GetType())
	require.Equal(t, "ada@example.com", ev.GetIdentifiers()[0].GetValue())
	opened := ev.GetPayload().GetEmailOpened()
	require.Equal(t, mail.MessageID, opened.GetMessageId())
	require.Equal(t, mail.CampaignID, opened.GetCampaignId())
	require.Equal(t, "GoogleImageProxy", opened.GetUserAgent())
	require.Equal(t, "198.51.100.7", opened.GetIpAddress())

	require.Equal(t, 200, f.send(http.MethodHead, path, "").status)
	require.Empty(t, f.got.take().GetEvents(), "a program that looks is no person")
	f.got.fail(bus.ErrUnavailable)
	require.Equal(t, http.StatusServiceUnavailable, f.send(http.MethodGet, path, "").status)
}

func TestClickRedirects(t *testing.T) {
	t.Parallel()
	f := newFixture(t)
	path, err := f.gateway.Links().ClickURL(mail, target)
	require.NoError(t, err)
	a := f.send(http.MethodGet, path, "")
	require.Equal(t, http.StatusFound, a.status)
	require.Equal(t, target, a.header.Get("Location"))
	require.Equal(t, "no-referrer", a.header.Get("Referrer-Policy"))
	ev := f.one()
	require.Empty(t, sharedValidator().Check(ev))
	require.Equal(t, target, ev.GetPayload().GetEmailClicked().GetUrl())
	require.Equal(t, eventv1.Direction_DIRECTION_INBOUND, ev.GetDirection())
	// Who follows a link arrives, whatever is broken here.
	f.got.fail(bus.ErrFull)
	a = f.send(http.MethodGet, path, "")
	require.Equal(t, http.StatusFound, a.status)
	require.Equal(t, target, a.header.Get("Location"))
}

func TestLinksLeadNowhereElse(t *testing.T) {
	t.Parallel()
	f := newFixture(t)
	links := f.gateway.Links()
	for _, bad := range []string{
		"", "/offer", "//evil.example", "javascript:alert(1)", "data:text/html,x", "https://", "http:evil.example",
		"https://user:pw@evil.example", "https://a.example/\r\nSet-Cookie: x", "https://a.example/ b", `https:\\evil.example`,
		"https://a.example/" + strings.Repeat("x", 4096), "ftp://a.example/",
	} {
		_, err := links.ClickURL(mail, bad)
		require.Error(t, err, bad)
	}
	click, err := links.ClickURL(mail, target)
	require.NoError(t, err)
	open, err := links.OpenURL(mail)
	require.NoError(t, err)
	token := strings.TrimPrefix(click, "/v1/c/")

	sealed, err := base64.RawURLEncoding.DecodeString(token)
	require.NoError(t, err)
	for i := range sealed {
		broken := bytes.Clone(sealed)
		broken[i] ^= 1
		a := f.send(http.MethodGet, "/v1/c/"+base64.RawURLEncoding.EncodeToString(broken), "")
		require.Equal(t, http.StatusNotFound, a.status, "byte %d", i)
		require.Empty(t, a.header.Get("Location"))
	}
	other, err := web.NewLinks("", "another secret, long enough")
	require.NoError(t, err)
	foreign, err := other.ClickURL(mail, target)
	require.NoError(t, err)
	for _, path := range []string{
		foreign, "/v1/c/" + strings.TrimPrefix(open, "/v1/o/"), "/v1/o/" + token, "/v1/c/x", "/v1/c/" + token + "A",
		"/v1/c/" + token[:len(token)-1], "/v1/c/" + strings.Repeat("A", 20_000), "/v1/c/" + url.PathEscape(target),
	} {
		a := f.send(http.MethodGet, path, "")
		require.Equal(t, http.StatusNotFound, a.status, path)
		require.Empty(t, a.header.Get("Location"))
	}
	require.Empty(t, f.got.all().GetEvents())
	without := newFixture(t, func(c *web.Config) { c.LinkSecret = "" })
	require.Nil(t, without.gateway.Links())
	require.Equal(t, http.StatusNotFound, without.send(http.MethodGet, click, "").status)
}

func TestLinksOutliveTheirSecret(t *testing.T) {
	t.Parallel()
	old := newFixture(t)
	path, err := old.gateway.Links().ClickURL(mail, target)
	require.NoError(t, err)
	f := newFixture(t, func(c *web.Config) {
		c.PublicURL = "https://t.example.com/"
		c.LinkSecret, c.PreviousLinkSecrets = "a new secret of some length", []config.Secret{linkSecret}
	})
	require.Equal(t, http.StatusFound, f.send(http.MethodGet, path, "").status)
	fresh, err := f.gateway.Links().OpenURL(mail)
	require.NoError(t, err)
	require.True(t, strings.HasPrefix(fresh, "https://t.example.com/v1/o/"), fresh)
	require.Equal(t, 200, f.send(http.MethodGet, fresh, "").status)
	require.Equal(t, http.StatusNotFound, old.send(http.MethodGet, fresh, "").status)
}

func TestLinksRefuseWhatMakesNoEvent(t *testing.T) {
	t.Parallel()
	links, err := web.NewLinks("", linkSecret)
	require.NoError(t, err)
	for name, change := range map[string]func(*web.MailLink){
		"tenant":        func(m *web.MailLink) { m.Tenant = "Not One" },
		"half of an id": func(m *web.MailLink) { m.IdentifierKind = "" },
		"too long":      func(m *web.MailLink) { m.MessageID = strings.Repeat("m", 1025) },
	} {
		bad := mail
		change(&bad)
		_, err := links.OpenURL(bad)
		require.Error(t, err, name)
	}
	_, err = links.OpenURL(web.MailLink{Tenant: "acme"})
	require.NoError(t, err)
}
