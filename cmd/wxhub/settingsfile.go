package main

import (
	"errors"
	"fmt"
	"maps"
	"math"
	"reflect"
	"slices"
	"strings"

	"github.com/go-viper/mapstructure/v2"
	"github.com/knadh/koanf/parsers/yaml"
	"github.com/knadh/koanf/providers/file"
	"github.com/knadh/koanf/v2"
)

// readFile leaves in faults what it could not take.
func (s *Settings) readFile(path string) error {
	k := koanf.New(".")
	if err := k.Load(file.Provider(path), yaml.Parser()); err != nil {
		return fmt.Errorf("settings file %s: %w", path, err)
	}
	var errs []error
	raw := k.Raw()
	spelt := make(map[string]string, len(raw))
	for _, key := range slices.Sorted(maps.Keys(raw)) {
		value, name := raw[key], strings.ToUpper(key)
		if other, twice := spelt[name]; twice {
			errs = append(errs, fmt.Errorf("%s: %s and %s are the same setting: keep one of them", path, other, key))
			continue
		}
		spelt[name] = key
		switch {
		case key == "rooms":
			errs = append(errs, wrapKey(path, key, s.readRooms(value)))
		case key == "products":
			errs = append(errs, wrapKey(path, key, readList(value, &s.Products)))
		case key == "hooks":
			errs = append(errs, wrapKey(path, key, readList(value, &s.Hooks)))
		case key == "fallbacks":
			errs = append(errs, wrapKey(path, key, readList(value, &s.Fallbacks)))
		case key == "replies":
			errs = append(errs, wrapKey(path, key, readList(value, &s.Replies)))
		case !known(name):
			errs = append(errs, fmt.Errorf("%s: %w", path, unknownSetting(key, strings.ToLower)))
		default:
			switch value.(type) {
			case map[string]any, []any, nil:
				errs = append(errs, fmt.Errorf("%s: %s must be one value", path, key))
			default:
				s.set(name, fmt.Sprint(value), path)
			}
		}
	}
	s.faults = errors.Join(errs...)
	return nil
}

// readList takes a list of structs as YAML gives it. A key that they do not have is an error: what it was meant to say
// would be missing in silence.
func readList[T any](value any, list *[]T) error {
	entries, ok := value.([]any)
	if !ok && value != nil {
		return errors.New("must be a list")
	}
	var errs []error
	read := make([]T, len(entries))
	for i, entry := range entries {
		d, err := mapstructure.NewDecoder(&mapstructure.DecoderConfig{
			Result: &read[i], TagName: "koanf", WeaklyTypedInput: true, ErrorUnused: true, DecodeHook: wholeNumbers,
		})
		if err != nil {
			return err
		}
		for _, fault := range decodeFaults(d.Decode(entry)) {
			errs = append(errs, fmt.Errorf("entry %d: %s", i+1, fault))
		}
	}
	if len(errs) > 0 {
		return errors.Join(errs...)
	}
	*list = read
	return nil
}

// wholeNumbers keeps 12.80 from becoming a price of 12 fen.
func wholeNumbers(_, to reflect.Type, v any) (any, error) {
	if f, ok := v.(float64); ok && to.Kind() >= reflect.Int && to.Kind() <= reflect.Uint64 && f != math.Trunc(f) {
		return nil, errFraction
	}
	return v, nil
}

var errFraction = errors.New("must be a whole number")

// decodeFaults says in our words what mapstructure found wrong, a line each.
func decodeFaults(err error) (faults []string) {
	if err == nil {
		return nil
	}
	_, text, found := strings.Cut(err.Error(), "\n\n")
	if !found {
		text = err.Error()
	}
	for line := range strings.SplitSeq(text, "\n") {
		if line = strings.TrimSpace(strings.TrimPrefix(strings.TrimSpace(line), "* ")); line == "" {
			continue
		}
		name, why, named := strings.Cut(strings.TrimPrefix(line, "'"), "' ")
		kind := ""
		if _, rest, ok := strings.Cut(why, "value as '"); ok {
			kind, _, _ = strings.Cut(rest, "'")
		} else if _, rest, ok := strings.Cut(why, "expected type '"); ok {
			kind, _, _ = strings.Cut(rest, "'")
		}
		keys, unknown := strings.CutPrefix(why, "has invalid keys: ")
		switch {
		case named && unknown && name == "":
			line = "has unknown keys: " + keys
		case named && unknown:
			line = name + " has unknown keys: " + keys
		case named && why == errFraction.Error(), named && (strings.HasPrefix(kind, "int") || strings.HasPrefix(kind, "uint")):
			line = name + " must be a whole number"
		case named && kind == "bool":
			line = name + " must be true or false"
		case named && kind != "" && name != "":
			line = name + " is not of the right kind"
		case named && name == "":
			line = "must have keys and values"
		}
		faults = append(faults, line)
	}
	return faults
}

// wrapKey names file and key before each error that err joins.
func wrapKey(path, key string, err error) error {
	if err == nil {
		return nil
	}
	list := []error{err}
	if all, ok := err.(interface{ Unwrap() []error }); ok { //nolint:errorlint // as readList joined them
		list = slices.Clone(all.Unwrap())
	}
	for i, err := range list {
		list[i] = fmt.Errorf("%s: %s: %w", path, key, err)
	}
	return errors.Join(list...)
}
