package main

import (
	"fmt"
	"os"
	"strings"
)

// As the real tool when a card has fallen off the bus.
const lostStatus = 15

type field struct {
	unit string
	read func(index int, c card) string
}

// Of a part the tool tells the card's name and nothing of its figures.
func number(read func(card) int) func(int, card) string {
	return func(_ int, c card) string {
		if profile(c) != "" {
			return "[Insufficient Permissions]"
		}
		return fmt.Sprint(read(c))
	}
}

// profile is "" of a whole card.
func profile(c card) string {
	_, found, _ := strings.Cut(c.Resource, "/mig-")
	return found
}

// whole is the card itself, or the one that a part was cut from.
func whole(c card) card {
	if found := profile(c); found != "" {
		c.Model = strings.TrimSuffix(c.Model, "-MIG-"+found)
		c.ID = "GPU-" + strings.TrimPrefix(c.ID, "MIG-")
	}
	return c
}

var fields = map[string]field{
	"index":              {"", func(index int, _ card) string { return fmt.Sprint(index) }},
	"count":              {"", nil}, // of all cards: see query
	"name":               {"", func(_ int, c card) string { return whole(c).Model }},
	"gpu_name":           {"", func(_ int, c card) string { return whole(c).Model }},
	"uuid":               {"", func(_ int, c card) string { return whole(c).ID }},
	"gpu_uuid":           {"", func(_ int, c card) string { return whole(c).ID }},
	"serial":             {"", func(_ int, c card) string { return "[N/A]" }},
	"pci.bus_id":         {"", func(_ int, c card) string { return bus(c) }},
	"driver_version":     {"", func(_ int, c card) string { return c.Driver }},
	"memory.total":       {"MiB", number(func(c card) int { return c.MemoryMiB })},
	"memory.used":        {"MiB", number(func(c card) int { return c.UsedMiB })},
	"memory.free":        {"MiB", number(func(c card) int { return c.MemoryMiB - c.UsedMiB })},
	"utilization.gpu":    {"%", number(func(c card) int { return c.Utilization })},
	"utilization.memory": {"%", number(func(c card) int { return 100 * c.UsedMiB / c.MemoryMiB })},
	"temperature.gpu":    {"", number(func(c card) int { return c.Celsius })},
}

func bus(c card) string { return fmt.Sprintf("00000000:%02X:00.0", 0x10+c.Number) }

func nvidia(arguments []string, all []card) int {
	living, status := []card{}, 0
	for _, each := range all {
		if each.Dead {
			fmt.Fprintf(os.Stderr, "Unable to determine the device handle for GPU %s: GPU is lost.  "+
				"Reboot the system to recover this GPU\n", bus(each))
			status = lostStatus
			continue
		}
		living = append(living, each)
	}
	if len(all) == 0 {
		fmt.Println("No devices were found")
		return 6
	}
	var wanted, format string
	for _, argument := range arguments {
		key, value, _ := strings.Cut(argument, "=")
		switch key {
		case "-L", "--list-gpus":
			for index, each := range living {
				fmt.Printf("GPU %d: %s (UUID: %s)\n", index, whole(each).Model, whole(each).ID)
				if found := profile(each); found != "" {
					fmt.Printf("  MIG %-11s Device  0: (UUID: %s)\n", found, each.ID)
				}
			}
			return status
		case "--query-gpu":
			wanted = value
		case "--format":
			format = value
		default:
			fmt.Fprintf(os.Stderr, "Invalid combination of input arguments. %s is not known here.\n", argument)
			return 1
		}
	}
	if wanted == "" {
		return table(living, status)
	}
	return query(strings.Split(wanted, ","), strings.Split(format, ","), living, status)
}

func query(wanted, format []string, living []card, status int) int {
	options := map[string]bool{}
	for _, each := range format {
		options[strings.TrimSpace(each)] = true
	}
	if !options["csv"] {
		fmt.Fprintln(os.Stderr, `"--format=" switch is missing or has no "csv"`)
		return 2
	}
	var heads []string
	for position, raw := range wanted {
		name := strings.TrimSpace(raw)
		known, ok := fields[name]
		if !ok {
			fmt.Printf("Field %q is not a valid field to query.\n\n", name)
			return 2
		}
		wanted[position] = name
		if known.unit != "" && !options["nounits"] {
			name += " [" + known.unit + "]"
		}
		heads = append(heads, name)
	}
	if !options["noheader"] {
		fmt.Println(strings.Join(heads, ", "))
	}
	for index, each := range living {
		var values []string
		for _, name := range wanted {
			known := fields[name]
			if known.read == nil {
				values = append(values, fmt.Sprint(len(living)))
				continue
			}
			value := known.read(index, each)
			if known.unit != "" && !options["nounits"] {
				value += " " + known.unit
			}
			values = append(values, value)
		}
		fmt.Println(strings.Join(values, ", "))
	}
	return status
}

// table is what a person sees who calls the tool without arguments; no program reads it.
func table(living []card, status int) int {
	line := "+" + strings.Repeat("-", 77) + "+"
	fmt.Println(line)
	for index, each := range living {
		if index == 0 {
			fmt.Printf("| %-75s |\n%s\n", "Driver Version: "+each.Driver+"   CUDA Version: "+each.Toolkit, line)
		}
		fmt.Printf("| %2d  %-36s %3d C  %6d / %6d MiB  %3d %%  |\n",
			index, each.Model, each.Celsius, each.UsedMiB, each.MemoryMiB, each.Utilization)
	}
	fmt.Println(line)
	return status
}
