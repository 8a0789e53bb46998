// A heap for the G1 collector: a table of linked records, of which many are replaced while it works, so that regions are evacuated.
import java.util.ArrayList;
import java.util.HashMap;
import java.util.List;
import java.util.Random;

public class Heap {
  static final class Entry {
    final String name;
    final long[] values;
    Entry next;

    Entry(int id, Entry next) {
      this.name = "entry " + id;
      this.values = new long[8 + id % 24];
      this.next = next;
    }
  }

  public static void main(String[] args) throws Exception {
    final int count = 120_000;
    Random random = new Random(1);
    HashMap<Integer, Entry> entries = new HashMap<>();
    for (int id = 0; id < count; id++) entries.put(id, new Entry(id, null));
    System.out.println("READY");
    System.in.read();
    long sum = 0;
    for (int round = 0; round < 400_000; round++) {
      int id = (int) (count * Math.pow(random.nextDouble(), 2));
      Entry entry = entries.get(id);
      sum += entry.values[0]++ + entry.name.length();
      if (round % 3 == 0) entries.put(id, new Entry(id, null));
    }
    List<Entry> order = new ArrayList<>(entries.values());
    order.sort((one, other) -> one.name.compareTo(other.name));
    for (Entry entry : order) sum += entry.values.length;
    System.out.println("DONE " + sum);
  }
}
