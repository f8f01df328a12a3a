package event_test

import (
	"testing"

	"github.com/stretchr/testify/require"
	"google.golang.org/protobuf/proto"

	"github.com/parleyhq/parley/pkg/event"
	eventv1 "github.com/parleyhq/parley/proto/gen/parley/event/v1"
)

func BenchmarkEncode(b *testing.B) {
	codec, ev := event.NewCodec(), trackEvent()
	b.Run("codec", func(b *testing.B) {
		b.ReportAllocs()
		for b.Loop() {
			if _, err := codec.Encode(ev); err != nil {
				b.Fatal(err)
			}
		}
	})
	b.Run("yardstick=proto.Marshal", func(b *testing.B) {
		b.ReportAllocs()
		for b.Loop() {
			if _, err := proto.Marshal(ev); err != nil {
				b.Fatal(err)
			}
		}
	})
}

func BenchmarkDecode(b *testing.B) {
	codec, ev := event.NewCodec(), trackEvent()
	encoded, err := codec.Encode(ev)
	require.NoError(b, err)
	rec := recordOf(encoded)
	whole, err := proto.Marshal(ev)
	require.NoError(b, err)
	b.Run("Decode", func(b *testing.B) {
		b.ReportAllocs()
		b.SetBytes(int64(len(encoded.Data)))
		for b.Loop() {
			if _, err := codec.Decode(rec); err != nil {
				b.Fatal(err)
			}
		}
	})
	b.Run("DecodeInto", func(b *testing.B) {
		b.ReportAllocs()
		out := &eventv1.RecordedEvent{}
		for b.Loop() {
			if err := codec.DecodeInto(rec, out); err != nil {
				b.Fatal(err)
			}
		}
	})
	b.Run("DecodeIntoParallel", func(b *testing.B) {
		b.ReportAllocs()
		b.RunParallel(func(pb *testing.PB) {
			out := &eventv1.RecordedEvent{}
			for pb.Next() {
				if err := codec.DecodeInto(rec, out); err != nil {
					b.Error(err)
					return
				}
			}
		})
	})
	b.Run("PeekRouting", func(b *testing.B) {
		b.ReportAllocs()
		for b.Loop() {
			if _, err := event.PeekRouting(rec.Data); err != nil {
				b.Fatal(err)
			}
		}
	})
	b.Run("yardstick=proto.Unmarshal", func(b *testing.B) {
		b.ReportAllocs()
		for b.Loop() {
			if err := proto.Unmarshal(whole, &eventv1.Event{}); err != nil {
				b.Fatal(err)
			}
		}
	})
}

func BenchmarkValidator(b *testing.B) {
	v, err := event.NewValidator()
	require.NoError(b, err)
	ev := trackEvent()
	require.Empty(b, v.Check(ev))
	b.ReportAllocs()
	for b.Loop() {
		if v.Check(ev) != nil {
			b.Fatal("violated")
		}
	}
}

func BenchmarkSanitizeNUL(b *testing.B) {
	ev := trackEvent()
	b.ReportAllocs()
	for b.Loop() {
		event.SanitizeNUL(ev)
	}
}

func BenchmarkSummary(b *testing.B) {
	ev := trackEvent()
	b.ReportAllocs()
	for b.Loop() {
		_ = event.Summary(ev)
	}
}

func BenchmarkDeterministicID(b *testing.B) {
	b.ReportAllocs()
	for b.Loop() {
		_ = event.DeterministicID("default", "web/dev", "ajs-next-1741064767-1b9d6bcd")
	}
}
