package auth_test

import (
	"context"
	"strings"
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/parleyhq/parley/services/email/internal/auth"
)

// The yardstick of a large body is what it takes to hash it once (Ed25519 and
// RSA verification are microseconds).
func BenchmarkVerify(b *testing.B) {
	line := strings.Repeat("0123456789 ", 6) + "\r\n"
	for _, size := range []struct {
		name  string
		lines int
	}{{"1kB", 15}, {"1MB", 15_000}} {
		b.Run(size.name, func(b *testing.B) {
			mail := []byte(sign(b, letter("ann@bank.example")+strings.Repeat(line, size.lines), "bank.example", edKey))
			v := auth.NewVerifier(auth.Config{Resolver: domains(b)})
			b.SetBytes(int64(len(mail)))
			b.ReportAllocs()
			for b.Loop() {
				got := v.Verify(context.Background(), auth.Input{Raw: mail, EnvelopeFrom: "a@bank.example", ClientIP: theirs})
				require.Equal(b, auth.Pass, got.Verdict)
			}
		})
	}
}
